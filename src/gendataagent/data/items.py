"""In which form a data set of the user's gives an image and its label."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageOps

from gendataagent.data.decoding.bit_depth import is_deep

if TYPE_CHECKING:
    import torch

_ORDERS = {"I;16": "<u2", "I;16L": "<u2", "I;16B": ">u2", "I;16N": "=u2"}

Transform = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class TensorForm:
    """The tensors that a data set gives as images.

    Args:
        dtype: uint8, or a float type with values in [0, 1].
        channels: 1 or 3, the first axis.
        height, width: in px; an image of another size is cropped to this shape and resized.
    """

    dtype: torch.dtype
    channels: int
    height: int
    width: int

    def __call__(self, image: Image.Image) -> torch.Tensor:
        """Return the image as such a tensor, [channels, height, width]."""
        import numpy as np
        import torch

        image = image.convert("L" if self.channels == 1 else "RGB")
        if image.size != (self.width, self.height):
            size = (self.width, self.height)
            image = ImageOps.fit(image, size, Image.Resampling.BICUBIC)
        values = torch.from_numpy(np.array(image)).reshape(self.height, self.width, -1)
        tensor = values.permute(2, 0, 1).contiguous()
        return tensor if self.dtype == torch.uint8 else (tensor / 255).to(self.dtype)


@dataclass(frozen=True, slots=True, kw_only=True)
class TupleItems:
    """`(image, label)`, as a torch data set gives it.

    Args:
        mode: of the PIL image that the transform gets.
        white: the value of white in such an image, for modes with more than 8 bits.
        tensor: the form of the image where it is a tensor, else None.
        transform, target_transform: applied to image and label; joint_transform: to both at once.
        label_dtype: of the label where it is a tensor without axes; None = a Python int.
    """

    mode: str = "RGB"
    white: float = 255
    tensor: TensorForm | None = None
    transform: Transform | None = None
    target_transform: Transform | None = None
    joint_transform: Callable[[Any, Any], tuple[Any, Any]] | None = None
    label_dtype: torch.dtype | None = None

    def item(self, image: Image.Image, label: int) -> Any:
        """Return the pair for an RGB image and its class index."""
        x: Any = self.tensor(image) if self.tensor is not None else self._in_mode(image)
        y: Any = label
        if self.label_dtype is not None:
            import torch

            y = torch.tensor(label, dtype=self.label_dtype)
        if self.joint_transform is not None:
            return self.joint_transform(x, y)
        if self.transform is not None:
            x = self.transform(x)
        if self.target_transform is not None:
            y = self.target_transform(y)
        return x, y

    def with_transform(
        self, transform: Transform | None, target_transform: Transform | None
    ) -> TupleItems:
        """Return pairs of a transformed PIL image and a transformed class index."""
        return TupleItems(
            mode=self.mode,
            white=self.white,
            transform=transform,
            target_transform=target_transform,
        )

    def _in_mode(self, image: Image.Image) -> Image.Image:
        """Return the image in `mode`; grey of more than 8 bits with its white at `white`."""
        if not is_deep(self.mode):
            return image.convert(self.mode)
        import numpy as np

        values = np.asarray(image.convert("F")) * (self.white / 255)
        if self.mode != "F":
            values = np.rint(values).astype("i4" if self.mode == "I" else _ORDERS[self.mode])
        return Image.frombytes(self.mode, image.size, values.tobytes())


@dataclass(frozen=True, kw_only=True)
class RowItems:
    """Rows of the columns of a `datasets.Dataset`, with its format or transform.

    Args:
        source: the user's data set.
        row_of: id of a real image -> its row in `source`.
        image_column, label_column, id_column: the last is None where there are no ids.
        values: class index -> the value of the label column.
        transform, target_transform: applied to the two columns of a row.
    """

    source: Any
    row_of: Mapping[str, int]
    image_column: str
    label_column: str
    id_column: str | None
    values: tuple[int | str, ...]
    transform: Transform | None = None
    target_transform: Transform | None = None

    def rows(
        self,
        paths: Sequence[Path],
        labels: Sequence[int],
        ids: Sequence[str],
        source_ids: Sequence[str],
    ) -> Any:
        """Return image files as a `datasets.Dataset` that gives rows as `source` does.

        Columns other than image, label and id have the values of the real image that a synthetic
        one was made from.
        """
        import datasets

        plain = self.source.with_format(None)
        own = [self.image_column, self.label_column, *([self.id_column] if self.id_column else [])]
        columns: dict[str, list[Any]] = {
            self.image_column: [str(path) for path in paths],
            self.label_column: [self.values[label] for label in labels],
        }
        if self.id_column:
            is_text = plain.features[self.id_column].dtype in ("string", "large_string")
            columns[self.id_column] = list(ids) if is_text else [-1] * len(ids)
        features = datasets.Features({name: plain.features[name] for name in own})
        made = datasets.Dataset.from_dict(columns, features=features)
        others = [name for name in plain.column_names if name not in own]
        if others:
            rows = plain.select_columns(others).select([self.row_of[id_] for id_ in source_ids])
            made = datasets.concatenate_datasets([made, rows.flatten_indices()], axis=1)
        made = made.select_columns(plain.column_names)
        if self.transform is not None or self.target_transform is not None:
            return made
        shown = self.source.format
        return made.with_format(
            shown["type"],
            columns=shown["columns"] if shown["type"] else None,
            output_all_columns=shown["output_all_columns"],
            **shown["format_kwargs"],
        )

    def item(self, rows: Any, index: int) -> Any:
        """Return a row of `rows`."""
        row = rows[index]
        for column, transform in (
            (self.image_column, self.transform),
            (self.label_column, self.target_transform),
        ):
            if transform is not None:
                row[column] = transform(row[column])
        return row

    def with_transform(
        self, transform: Transform | None, target_transform: Transform | None
    ) -> RowItems:
        """Return rows with two columns transformed, in place of the format of `source`."""
        unchanged = transform is None and target_transform is None
        return replace(
            self,
            source=self.source.with_format(None) if unchanged else self.source,
            transform=transform,
            target_transform=target_transform,
        )


Items = TupleItems | RowItems
