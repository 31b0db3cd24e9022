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
_WHAT_DIFFERS = {"content": "other content", "class": "another class", "split": "another split"}


def as_recorded(splits: ImageSplits, rows: Sequence[Row], *, place: str, whose: str) -> ImageSplits:
    """Return `splits` with the order and the labels of the rows of `ImageSplits.to_rows`, recorded.

    Args:
        place: where the images were read, for the message.
        whose: what was made with them, for the message ("the run in runs/first").

    Raises:
        RunFolderError: they are not the same images, of the same classes, in the same splits;
            names files.
    """
    _check(splits.to_rows(), rows, place, whose)
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
    now = [
        {"id": id_, "class": images.class_names[label], "content": content}
        for id_, label, content in columns
    ]
    if path not in folder.sealed_files():
        folder.write_jsonl(path, now)
    elif damage := folder.damage(path):
        raise RunFolderError(f"{damage}; it lists the training images. Put it back from a copy")
    else:
        then = read_columns(path, {"id": str, "class": str, "content": str})
        _check(now, then, "hand", f"the agent in {folder.path}")


def _check(now: Sequence[Row], then: Sequence[Row], place: str, whose: str) -> None:
    """Raise `RunFolderError` if two sets of images differ; names files."""
    new = {row["id"]: row for row in now}
    old = {row["id"]: row for row in then}
    found = {
        words: [id_ for id_ in old if id_ in new and new[id_].get(key) != old[id_].get(key)]
        for key, words in _WHAT_DIFFERS.items()
    }
    found["missing"] = [id_ for id_ in old if id_ not in new]
    found["not there before"] = [id_ for id_ in new if id_ not in old]
    differences = [f"{what}: {first_few(ids)}" for what, ids in found.items() if ids]
    if differences:
        raise RunFolderError(
            f"the images at {place} are not those that {whose} was started with: "
            f"{'; '.join(differences)}. Put them back, name their new place with --data, or start "
            "a new run with --out"
        )
