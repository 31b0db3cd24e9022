"""A torch data set of (image, label) as labelled images, without its transforms."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import io
import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gendataagent.core.errors import DataError
from gendataagent.core.files import open_regular
from gendataagent.data.decoding.bit_depth import is_deep
from gendataagent.data.decoding.images import decode, to_rgb
from gendataagent.data.index import normalise_name
from gendataagent.data.items import TupleItems
from gendataagent.data.sets import LabelledImages
from gendataagent.data.torch_items import pair_of, range_of, tensor_form, to_label, to_pil
from gendataagent.data.torch_names import class_names_of, leaves_of

_HASH_BYTES = 6
_TRANSFORMS = ("transform", "target_transform", "transforms")  # torchvision's names


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedSet:
    """A torch data set as the agent reads it; see `train_set.TrainSet`."""

    images: LabelledImages
    form: TupleItems
    size_px: int | None
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None


def open_torch_set(data_set: Any, class_names: Sequence[str] | None) -> OpenedSet:
    """Return the images of a map-style torch data set, and how it shows them.

    The agent needs undistorted images. So the attributes `transform`, `target_transform` and
    `transforms` are taken off a copy, inside `Subset` and `ConcatDataset` too. A data set that
    distorts its images otherwise is read as it is.

    Ids are the paths of `samples` (as torchvision's ImageFolder has them), else position and a
    hash of the pixels, for which every image is read once.

    Raises:
        DataError: no items, an item that is not an image with a label, or class names that give a
            label two meanings.
    """
    if not len(data_set):
        raise DataError("the train set is empty; give at least one image of each class")
    leaves = [(leaf, list(dict.fromkeys(rows))) for leaf, rows in leaves_of(data_set)]
    form = _form(*leaves[0])
    mean, std = _normalisation(form)
    shown, shown_label = _shown(data_set)
    size_px = min(shown.shape[1:]) if isinstance(shown, Tensor) and shown.ndim == 3 else None
    if mean is None and isinstance(shown, Tensor) and range_of(shown) is not None:
        mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)  # the classifier is fed these very values
    store = ItemStore(
        tuple(_without_transforms(leaf) for leaf, _ in leaves),
        tuple((number, row) for number, (_, rows) in enumerate(leaves) for row in rows),
    )
    if is_deep(form.mode):
        store.bits, form = _deep_form(store, form)
    ids, labels, contents = _ids_labels_contents(leaves, store)
    _require_unchanged(labels[0], shown_label)
    starts = np.cumsum([0, *(len(rows) for _, rows in leaves)])
    for (leaf, _), start, end in zip(leaves, starts[:-1], starts[1:], strict=True):
        transform: Any = getattr(leaf, "target_transform", None)
        for label in sorted(set(labels[start:end])) if callable(transform) else ():
            _require_unchanged(label, transform(label))
    return OpenedSet(
        images=LabelledImages(
            class_names=class_names_of(class_names, [leaf for leaf, _ in leaves], labels),
            ids=tuple(ids),
            labels=tuple(labels),
            rows=tuple(range(len(ids))),
            store=store,
            bits=store.bits,
            contents=contents,
        ),
        form=form,
        size_px=size_px,
        mean=mean,
        std=std,
    )


class ItemStore:
    """The images of torch data sets, by (data set, row).

    One item is read at a time, since a data set need not be safe to read from several threads.

    Args:
        bits: real depth of all images with 16 bits a sample, 0 = none known.
    """

    def __init__(
        self, data_sets: tuple[Any, ...], rows: tuple[tuple[int, int], ...], bits: int = 0
    ) -> None:
        self._data_sets, self._rows, self.bits = data_sets, rows, bits
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._data_sets, self._rows, self.bits)

    def __len__(self) -> int:
        return len(self._rows)

    def item(self, row: int) -> tuple[Image.Image, int]:
        """Return image and label; raise `DataError` for any other item."""
        number, index = self._rows[row]
        with self._lock:
            item = self._data_sets[number][index]
        image, label = pair_of(item, f"item {index}")
        return to_pil(image, f"item {index}"), to_label(label, f"item {index}")

    def open(self, row: int) -> BinaryIO:
        """Return the image as a PPM file, which costs a copy of its pixels."""
        image, _ = self.item(row)
        stream = io.BytesIO()
        to_rgb(image, self.bits).save(stream, "PPM")
        stream.seek(0)
        return stream

    def open_content(self, row: int) -> BinaryIO:
        """Return what identifies an image: its file, if the data set names one, else its pixels."""
        number, index = self._rows[row]
        samples = getattr(self._data_sets[number], "samples", None)
        if isinstance(samples, list) and isinstance(samples[index][0], str | Path):
            with contextlib.suppress(OSError):
                return open_regular(samples[index][0])
        return self.open(row)

    def name(self, row: int) -> str:
        """Return the position in the data set."""
        return f"item {self._rows[row][1]}"


def _unchanged(*values: Any) -> Any:
    """Take the place of a transform of one value, or of image and label."""
    return values[0] if len(values) == 1 else values


def _without_transforms(data_set: Any, stand_in: Callable[[str], Any] | None = None) -> Any:
    """Return a shallow copy of the data set whose transforms change nothing."""
    names = [name for name in _TRANSFORMS if getattr(data_set, name, None) is not None]
    if not names:
        return data_set
    plain = copy.copy(data_set)
    for name in names:
        setattr(plain, name, _unchanged if stand_in is None else stand_in(name))
    return plain


def _form(data_set: Any, rows: Sequence[int]) -> TupleItems:
    """Return how a data set makes its items, found out by watching it make the first one."""
    calls: dict[str, int] = {}

    def watch(name: str) -> Callable[..., Any]:
        def called(*values: Any) -> Any:
            calls[name] = len(values)
            return _unchanged(*values)

        return called

    item = _without_transforms(data_set, watch)[rows[0]]
    image, label = pair_of(item, f"item {rows[0]}")
    pil = to_pil(image, f"item {rows[0]}")
    joint = next((name for name, values in calls.items() if values == 2), None)
    single = next((n for n in ("transform", "transforms") if calls.get(n) == 1), None)
    return TupleItems(
        mode=pil.mode,
        tensor=tensor_form(image) if isinstance(image, Tensor) else None,
        transform=getattr(data_set, single) if single else None,
        target_transform=(data_set.target_transform if "target_transform" in calls else None),
        joint_transform=getattr(data_set, joint) if joint else None,
        label_dtype=label.dtype if isinstance(label, Tensor) else None,
    )


def _deep_form(store: ItemStore, form: TupleItems) -> tuple[int, TupleItems]:
    """Return the real depth of images of more than 8 bits, and their form with its white.

    All images are read, since a dark one does not tell the depth.
    """
    bits, fractions = 0, True
    for row in range(len(store)):
        image, _ = store.item(row)
        bits = max(bits, decode(image).bits)
        fractions = fractions and image.mode == "F" and float(np.asarray(image).max()) <= 1
    if form.mode == "F":
        return bits, replace(form, white=1 if fractions else 255)
    return bits, replace(form, white=(1 << bits) - 1)


def _ids_labels_contents(
    leaves: Sequence[tuple[Any, Sequence[int]]], store: ItemStore
) -> tuple[list[str], list[int], tuple[str, ...] | None]:
    """Return ids, labels, and hashes of the pixels; None for those where files were not read."""
    ids: list[str] = []
    contents: list[str] = []
    labels: list[int] = []
    for number, (leaf, rows) in enumerate(leaves):
        prefix = f"{number}/" if len(leaves) > 1 else ""
        samples = _samples(leaf)
        for row in rows:
            if samples is not None:
                name, label = samples[row][0], to_label(samples[row][1], f"item {row}")
            else:
                image, label = store.item(len(ids))
                pixels = f"{image.mode} {image.size} ".encode() + image.tobytes()
                digest = hashlib.blake2b(pixels, digest_size=_HASH_BYTES).hexdigest()
                name = f"{row:06d}-{digest}"
                contents.append(digest)
            ids.append(prefix + name)
            labels.append(label)
    return ids, labels, tuple(contents) if len(contents) == len(ids) else None


def _samples(data_set: Any) -> list[tuple[str, int]] | None:
    """Return (path below the root, label) of a data set like torchvision's ImageFolder."""
    samples, root = getattr(data_set, "samples", None), getattr(data_set, "root", None)
    if not (isinstance(samples, list) and samples and hasattr(data_set, "loader") and root):
        return None
    try:
        found = [
            (normalise_name(Path(path).relative_to(root).as_posix()), int(label))
            for path, label in samples
        ]
    except (TypeError, ValueError):
        return None
    return found if len({name for name, _ in found}) == len(data_set) else None


def _normalisation(
    form: TupleItems,
) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """Return mean and std of a Normalize among the transforms, as torchvision's are built."""
    pending: list[Any] = [form.joint_transform, form.transform]
    while pending:
        transform = pending.pop()
        mean, std = getattr(transform, "mean", None), getattr(transform, "std", None)
        if isinstance(mean, Sequence | Tensor) and isinstance(std, Sequence | Tensor):
            return _three(mean), _three(std)
        pending.append(getattr(transform, "transform", None))
        inner = getattr(transform, "transforms", None)
        pending += list(inner) if isinstance(inner, Sequence | torch.nn.ModuleList) else []
        pending = [one for one in pending if one is not None]
    return None, None


def _three(values: Any) -> tuple[float, ...]:
    """Return one value per colour channel; a grey image counts as three equal channels."""
    found = tuple(float(value) for value in values)
    return found * 3 if len(found) == 1 else found


def _shown(data_set: Any) -> tuple[Any, Any]:
    """Return the first item as a training loop gets it; random states stay."""
    python_state, numpy_state = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            return pair_of(data_set[0], "item 0")
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)


def _require_unchanged(label: int, shown: Any) -> None:
    """Raise `DataError` if a transform gives a label another number: the model's outputs follow it.

    A label that becomes no number, such as one-hot values, keeps its place among the outputs.
    """
    if isinstance(shown, Tensor | np.generic | np.ndarray) and shown.ndim == 0:
        shown = shown.item()
    if isinstance(shown, int | float) and shown != label:
        raise DataError(
            f"a transform of the train set changes the label {label} to {shown}, so that the "
            "model's outputs have other meanings than the labels that the agent reads. Change the "
            "labels in the data set itself, without target_transform"
        )
