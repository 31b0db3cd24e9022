"""Whether loaded images are those that a run was started with: by content, not by place or date."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from gendataagent.core.errors import RunFolderError
from gendataagent.core.rows import read_columns
from gendataagent.core.run_folder import RunFolder
from gendataagent.data.index import TEST, TRAIN, VALIDATION, first_few
from gendataagent.data.sets import LabelledImages
from gendataagent.data.splits import ImageSplits

Row = Mapping[str, Any]
_OF_A_RUN = {"content": "other content", "class": "another class", "split": "another split"}
_OF_A_TRAIN_SET = {"content": "other content", "label": "another label"}


def as_recorded(splits: ImageSplits, rows: Sequence[Row], *, place: str, whose: str) -> ImageSplits:
    """Return `splits` with the order and the labels of the rows of `ImageSplits.to_rows`, recorded.

    Args:
        place: where the images were read, for the message.
        whose: what was made with them, for the message ("the run in runs/first").

    Raises:
        RunFolderError: they are not the same images, of the same classes, in the same splits;
            names files.
    """
    if differences := _differences(splits.to_rows(), rows, _OF_A_RUN):
        raise RunFolderError(
            f"the images at {place} are not those that {whose} was started with: {differences}. "
            "Put them back, name their new place with --data, or start a new run with --out"
        )
    label_of = {row["class"]: row["label"] for row in rows}
    names = tuple(sorted(label_of, key=label_of.__getitem__))
    number_of = {name: number for number, name in enumerate(names)}
    sets, sketches = {}, {}
    for split, images in splits.by_name().items():
        own = [row for row in rows if row["split"] == split]
        order = [images.index_of(row["id"]) for row in own]
        labels = tuple(number_of[row["class"]] for row in own)
        sets[split] = replace(images.subset(order), class_names=names, labels=labels)
        if split in splits.sketches:
            sketches[split] = splits.sketches[split][order]
    return replace(
        splits,
        train=sets[TRAIN],
        validation=sets[VALIDATION],
        test=sets[TEST],
        sketches=sketches,
    )


def check_train_images(folder: RunFolder, images: LabelledImages) -> None:
    """Record the training images of a new folder, or check that they are those of an earlier one.

    For a folder that only `Agent.open` uses; a complete run records all splits.

    Raises:
        RunFolderError: they are others, or the record of them has changed.
    """
    path = folder.path / "data" / "train.jsonl"
    columns = zip(images.ids, images.labels, images.content_hashes(), strict=True)
    now = [{"id": id_, "label": label, "content": content} for id_, label, content in columns]
    if path not in folder.sealed_files():
        folder.write_jsonl(path, now)
    elif damage := folder.damage(path):
        raise RunFolderError(f"{damage}; it lists the training images. Put it back from a copy")
    else:
        then = read_columns(path, {"id": str, "label": int, "content": str})
        if differences := _differences(now, then, _OF_A_TRAIN_SET):
            raise RunFolderError(
                f"the training images are not those that the agent in {folder.path} was started "
                f"with: {differences}. Give it those, or name a new folder with out="
            )


def _differences(now: Sequence[Row], then: Sequence[Row], columns: Mapping[str, str]) -> str:
    """Return in words how two sets of images differ, naming files; "" if they are the same.

    Args:
        columns: column to compare -> what it means that it differs.
    """
    new = {row["id"]: row for row in now}
    old = {row["id"]: row for row in then}
    found = {
        words: [id_ for id_ in old if id_ in new and new[id_].get(key) != old[id_].get(key)]
        for key, words in columns.items()
    }
    found["missing"] = [id_ for id_ in old if id_ not in new]
    found["not there before"] = [id_ for id_ in new if id_ not in old]
    return "; ".join(f"{what}: {first_few(ids)}" for what, ids in found.items() if ids)
