"""Torch data sets, `datasets.Dataset` and paths as the images the agent works on."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset

from gendataagent.config import DataConfig
from gendataagent.core.errors import DataError
from gendataagent.data import LabelledImages
from gendataagent.data.items import RowItems, TupleItems
from gendataagent.data.train_set import TrainSet, open_train_set

LABELS = (1, 0, 2, 1)


def noise_image(number: int, size: tuple[int, int] = (40, 32), mode: str = "RGB") -> Image.Image:
    rng = np.random.default_rng(number)
    shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
    return Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8))


class ToTensor:
    def __call__(self, image: Image.Image) -> torch.Tensor:
        values = torch.from_numpy(np.array(image)).reshape(image.height, image.width, -1)
        return values.permute(2, 0, 1).float() / 255


class Normalize:
    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        self.mean, self.std = mean, std

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        mean, std = torch.tensor(self.mean), torch.tensor(self.std)
        return (image - mean[:, None, None]) / std[:, None, None]


class RandomCrop:
    """Draws from torch's global generator."""

    def __call__(self, image: Image.Image) -> Image.Image:
        left = int(torch.randint(8, ()))
        return image.crop((left, 0, left + 32, 32))


class Compose:
    def __init__(self, *transforms: Callable[[Any], Any]) -> None:
        self.transforms = list(transforms)

    def __call__(self, value: Any) -> Any:
        for transform in self.transforms:
            value = transform(value)
        return value


class Both:
    """Like torchvision's StandardTransform: image and label in one call."""

    def __init__(self, transform: Callable[[Any], Any]) -> None:
        self.transform = transform

    def __call__(self, image: Any, label: int) -> tuple[Any, int]:
        return self.transform(image), label


class InMemory(Dataset[Any]):
    """Like torchvision's data sets in memory."""

    def __init__(self, transform: Any = None, mode: str = "RGB") -> None:
        self.transform, self.mode = transform, mode

    def __len__(self) -> int:
        return len(LABELS)

    def __getitem__(self, index: int) -> Any:
        image: Any = noise_image(index, mode=self.mode)
        return image if self.transform is None else self.transform(image), LABELS[index]


class JointlyTransformed(InMemory):
    def __init__(self, transforms: Any) -> None:
        super().__init__()
        self.transforms = transforms

    def __getitem__(self, index: int) -> Any:
        return self.transforms(noise_image(index), LABELS[index])


class Items(Dataset[Any]):
    """Gives whatever it is made of."""

    def __init__(self, *items: Any) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index]


def opened(train_set: Any, **options: Any) -> TrainSet:
    return open_train_set(train_set, DataConfig(), seed=0, **options)


NORMALIZED = Compose(RandomCrop(), ToTensor(), Normalize((0.5, 0.4, 0.3), (0.2, 0.2, 0.1)))


@pytest.mark.parametrize(
    "train_set", [InMemory(), InMemory(NORMALIZED), JointlyTransformed(Both(NORMALIZED))]
)
def test_images_come_without_the_transforms(train_set: Dataset[Any]) -> None:
    images = opened(train_set).images
    assert images.labels == LABELS
    assert images.class_names == ("0", "1", "2")
    for index in range(4):
        assert images.image(index).tobytes() == noise_image(index).tobytes()


def test_the_data_set_itself_is_left_as_found() -> None:
    train_set = InMemory(NORMALIZED)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    opened(train_set)
    assert torch.equal(torch.rand(3), expected)
    assert train_set.transform is NORMALIZED


@pytest.mark.parametrize("train_set", [InMemory(NORMALIZED), JointlyTransformed(Both(NORMALIZED))])
def test_a_transform_shows_what_the_classifier_sees(train_set: Dataset[Any]) -> None:
    found = opened(train_set)
    assert (found.size_px, found.mean, found.std) == (32, (0.5, 0.4, 0.3), (0.2, 0.2, 0.1))
    image, label = found.form.item(noise_image(9), 2)
    assert (image.shape, label) == ((3, 32, 32), 2)
    assert float(image.min()) < 0


def test_without_normalisation_the_values_are_those_of_the_tensors() -> None:
    found = opened(InMemory(Compose(RandomCrop(), ToTensor())))
    assert (found.mean, found.std) == ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def test_pil_images_say_nothing_about_the_classifier() -> None:
    found = opened(InMemory())
    assert (found.size_px, found.mean, found.std) == (None, None, None)


def test_grey_images_are_given_to_the_transform_as_grey() -> None:
    found = opened(InMemory(Compose(ToTensor(), Normalize((0.5,), (0.5,))), mode="L"))
    assert found.images.image(0).mode == "RGB"
    assert found.mean == (0.5, 0.5, 0.5)
    image, _ = found.form.item(noise_image(1), 0)
    assert image.shape == (1, 32, 40)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float16])
def test_tensors_are_images_too(dtype: torch.dtype) -> None:
    values = torch.from_numpy(np.array(noise_image(3))).permute(2, 0, 1)
    tensor = values if dtype == torch.uint8 else (values / 255).to(dtype)
    found = opened(Items((tensor, torch.tensor(1)), (tensor.flip(2), torch.tensor(0))))
    close = np.abs(np.array(found.images.image(0), dtype=int) - np.array(noise_image(3), dtype=int))
    assert close.max() <= (0 if dtype != torch.float16 else 1)
    image, label = found.form.item(noise_image(9, (64, 64)), 1)
    assert (image.dtype, image.shape, label.dtype) == (dtype, (3, 32, 40), torch.int64)
    batch = next(iter(DataLoader(Items((tensor, torch.tensor(1)), (image, label)), 2)))
    assert batch[0].shape == (2, 3, 32, 40)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ((torch.full((3, 8, 8), 2.0), 0), "with values from 2 to 2"),
        ((torch.zeros(8, 8), 0), r"tensor of shape \(8, 8\)"),
        ((torch.zeros(3, 8, 8, dtype=torch.int64), 0), "torch.int64 tensor"),
        ((np.zeros((8, 8, 3)), 0), "an image of type ndarray"),
        ({"pixels": 1}, "item 0 of the train set is a dict"),
        ((noise_image(0), "cat"), "the label 'cat'"),
        ((noise_image(0), -2), "the label -2"),
        ((noise_image(0), torch.tensor([0.0, 1.0])), "the label tensor"),
    ],
)
def test_other_items_are_refused_with_what_is_allowed(item: Any, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        opened(Items(item))
    assert "allowed are (image, label)" in str(caught.value)


@pytest.mark.parametrize("train_set", [42, None, iter([1]), {"a": 1}])
def test_what_is_no_data_set_is_refused(train_set: Any) -> None:
    with pytest.raises(DataError, match="allowed are a torch data set"):
        opened(train_set)


def test_ids_follow_content_and_position() -> None:
    first, again = opened(InMemory()).images, opened(InMemory(NORMALIZED)).images
    assert first.ids == again.ids
    part = opened(Subset(InMemory(NORMALIZED), [3, 1])).images
    assert part.ids == (first.ids[3], first.ids[1])
    assert part.labels == (1, 0)
    assert part.image(0).tobytes() == noise_image(3).tobytes()


def test_parts_of_a_concatenation_are_read_without_their_transforms() -> None:
    both: ConcatDataset[Any] = ConcatDataset(
        [Subset(InMemory(NORMALIZED), [2, 2, 0]), InMemory(NORMALIZED)]
    )
    images = opened(Subset(both, [0, 2, 3, 6])).images
    assert images.labels == (2, 1, 1, 1)
    expected = [noise_image(i).tobytes() for i in (2, 0, 0, 3)]
    assert [images.image(i).tobytes() for i in range(4)] == expected


class Folder(InMemory):
    """Like torchvision's ImageFolder."""

    def __init__(self, root: Path, transform: Any = None) -> None:
        super().__init__(transform)
        self.root = str(root)
        self.classes = sorted(path.name for path in root.iterdir())
        self.samples = [
            (str(path), self.classes.index(path.parent.name)) for path in sorted(root.glob("*/*"))
        ]
        self.read = 0

    def loader(self, path: str) -> Image.Image:
        self.read += 1
        return Image.open(path).convert("RGB")

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Any:
        path, label = self.samples[index]
        image: Any = self.loader(path)
        return image if self.transform is None else self.transform(image), label


def test_an_image_folder_gives_paths_as_ids_and_is_not_read_at_once(tmp_path: Path) -> None:
    for number, name in enumerate(("b/x.png", "b/y.png", "a/z.png")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        noise_image(number).save(tmp_path / name)
    train_set = Folder(tmp_path, NORMALIZED)
    found = opened(train_set)
    assert found.images.ids == ("a/z.png", "b/x.png", "b/y.png")
    assert found.images.class_names == ("a", "b")
    assert train_set.read <= 2  # the first item, with and without transform
    assert found.images.image(1).tobytes() == noise_image(0).tobytes()


def test_class_names_are_given_or_those_of_the_set() -> None:
    assert opened(InMemory(), class_names=["x", "y", "z"]).images.class_names == ("x", "y", "z")
    train_set = InMemory()
    train_set.classes = [("tench", "Tinca"), ("goldfish",), ("shark",)]  # type: ignore[attr-defined]
    assert opened(train_set).images.class_names == ("tench", "goldfish", "shark")
    with pytest.raises(DataError, match="labels must be"):
        opened(InMemory(), class_names=["x", "y"])
    with pytest.raises(DataError, match="class_names is for a torch data set"):
        opened(opened(InMemory()).images, class_names=["x"])


class Named(InMemory):
    """With names of its labels, as torchvision's data sets have them."""

    def __init__(self, *classes: str, class_to_idx: dict[str, int] | None = None) -> None:
        super().__init__()
        self.classes = list(classes)
        self.class_to_idx = class_to_idx or {name: i for i, name in enumerate(classes)}


def test_class_to_idx_says_which_name_a_label_has() -> None:
    moved = Named("ant", "bee", "cow", class_to_idx={"ant": 2, "bee": 1, "cow": 0})
    assert opened(moved).images.class_names == ("cow", "bee", "ant")
    merged = Named("ant", "bee", "cow", class_to_idx={"ant": 1, "bee": 1, "cow": 0})
    with pytest.raises(
        DataError, match=r"\('ant', 'bee', 'cow'\) does not fit .* \(ant: 1, bee: 1"
    ):
        opened(merged)


def test_parts_of_one_data_set_agree_on_the_names_of_labels() -> None:
    parts: Dataset[Any] = ConcatDataset(
        [Named("ant", "bee", "cow"), Named("ant", "bee", "cow", "dog")]
    )
    assert opened(parts).images.class_names == ("ant", "bee", "cow", "dog")
    other: Dataset[Any] = ConcatDataset(
        [Named("ant", "bee", "cow"), Subset(Named("cow", "bee", "ant"), [0, 1])]
    )
    with pytest.raises(DataError) as error:
        opened(other)
    assert "the Named at place 0 has 'ant', 'bee', 'cow'" in str(error.value)
    assert "the Named at place 1 has 'cow', 'bee', 'ant'" in str(error.value)


def test_given_class_names_replace_names_but_do_not_move_them() -> None:
    images = opened(Named("n01", "n02", "n03"), class_names=["ant", "bee", "cow"]).images
    assert images.class_names == ("ant", "bee", "cow")
    with pytest.raises(DataError, match=r"class_names has 'cow', .*has 'ant', 'bee', 'cow'"):
        opened(Named("ant", "bee", "cow"), class_names=["cow", "bee", "ant"])


@pytest.mark.parametrize("as_tensor", [False, True])
def test_a_transform_that_renumbers_labels_is_refused(as_tensor: bool) -> None:
    train_set = Named("ant", "bee", "cow")
    swapped = {0: 0, 1: 1, 2: 3}
    train_set.target_transform = (  # type: ignore[attr-defined]
        (lambda label: torch.tensor(swapped[label])) if as_tensor else swapped.__getitem__
    )
    with pytest.raises(DataError, match="changes the label 2 to 3"):
        opened(train_set)
    joint = JointlyTransformed(lambda image, label: (image, 2 - label if label != 1 else 0))
    with pytest.raises(DataError, match="changes the label 1 to 0"):
        opened(joint)
    one_hot = Named("ant", "bee", "cow")
    one_hot.target_transform = lambda label: torch.eye(3)[label]  # type: ignore[attr-defined]
    assert opened(one_hot).images.labels == LABELS


@pytest.mark.parametrize("missing", [-1, None, "", float("nan"), torch.tensor(-1)])
def test_items_without_a_label_are_refused(missing: Any) -> None:
    with pytest.raises(DataError, match="item 1 of the train set has no label"):
        opened(Items((noise_image(0), 0), (noise_image(1), missing)))


@pytest.mark.parametrize("name", ["", "-1", "NaN"])
def test_a_class_whose_name_says_nothing_is_no_label(name: str) -> None:
    with pytest.raises(DataError, match=rf"the label 2, whose name '{name}' says that there is"):
        opened(Named("ant", "bee", name))
    features = datasets.Features(
        image=datasets.Image(), label=datasets.ClassLabel(names=["a", name, "b"])
    )
    rows = {"image": [noise_image(n) for n in range(4)], "label": [0, 1, 2, 2]}
    with pytest.raises(DataError, match=r"1 row has no label .*the first is row 1"):
        opened(datasets.Dataset.from_dict(rows, features=features))


@pytest.mark.parametrize(
    ("labels", "kind"),
    [([0, -1, 1, 1], "int64"), ([0, None, 1, 1], "int64"), (["a", "", "b", "b"], "string")],
)
def test_rows_without_a_label_are_refused(labels: list[Any], kind: str) -> None:
    for label in (datasets.Value(kind), datasets.ClassLabel(names=["a", "b"])):
        if kind == "string" and isinstance(label, datasets.ClassLabel):
            continue
        rows = {"image": [noise_image(n) for n in range(4)], "label": labels}
        features = datasets.Features(image=datasets.Image(), label=label)
        with pytest.raises(DataError, match=r"1 row has no label .*the first is row 1"):
            opened(datasets.Dataset.from_dict(rows, features=features))


@pytest.mark.parametrize(
    ("value", "kind"),
    [(255, "uint8"), (65535, "uint16"), (2**32 - 1, "uint32"), (2**64 - 1, "uint64"),
     (255, "int64")],
)  # fmt: skip
def test_minus_one_without_a_sign_is_no_label(value: int, kind: str) -> None:
    data = datasets.Dataset.from_dict({"image": [noise_image(n) for n in range(4)]})
    made = data.add_column("label", np.array([0, value, 1, 1], kind))
    with pytest.raises(DataError, match=r"1 row has no label .*unsigned.*the first is row 1"):
        opened(made.cast_column("image", datasets.Image()))
    for label in (value, np.array(value, kind)[()]):
        with pytest.raises(DataError, match="no label"):
            opened(Items((noise_image(0), 0), (noise_image(1), label), (noise_image(2), 1)))


@pytest.mark.parametrize("label", [-1, 2**32 - 1, 255])
def test_files_without_a_label_are_refused(label: int, tmp_path: Path) -> None:
    """A data set like torchvision's ImageFolder, of which not all files are labelled."""

    class Listed(Items):
        root, loader = str(tmp_path), None
        samples: Any = None

    labels = (0, 1, label)
    train_set = Listed(*((noise_image(number), 0) for number in range(3)))
    train_set.samples = [(f"{tmp_path}/{n}.png", label) for n, label in enumerate(labels)]
    with pytest.raises(DataError, match="no label"):
        opened(train_set)


@pytest.mark.parametrize("labels", [[[1], [2], [1], [2]], [0.5, 1.5, 0.5, 1.0], [0, -100, 1, 1]])
def test_rows_whose_label_is_no_class_are_refused(labels: list[Any]) -> None:
    data = datasets.Dataset.from_dict({"image": [noise_image(n) for n in range(4)]})
    made = data.add_column("label", labels).cast_column("image", datasets.Image())
    with pytest.raises(DataError, match=r"row \d has the label .*, which is no class"):
        opened(made)


def test_images_can_be_sent_to_another_process() -> None:
    images = pickle.loads(pickle.dumps(opened(InMemory(NORMALIZED)).images))
    assert images.image(2).tobytes() == noise_image(2).tobytes()


def rows(**columns: Any) -> datasets.Dataset:
    features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=["c", "b", "a"])}
    data = {"image": [noise_image(i) for i in range(4)], "label": list(LABELS), **columns}
    made = datasets.Dataset.from_dict(data)
    return made.cast(datasets.Features({**made.features, **features}))


def test_a_datasets_dataset_is_read_with_its_class_label() -> None:
    found = opened(rows())
    assert isinstance(found.form, RowItems)
    images = found.images
    assert (images.labels, images.class_names) == (LABELS, ("c", "b", "a"))
    assert images.image(3).tobytes() == noise_image(3).tobytes()
    assert images.ids == opened(rows()).images.ids
    assert opened(datasets.DatasetDict({"train": rows(), "test": rows()})).images.ids == images.ids


def test_formats_and_transforms_of_rows_are_passed_by() -> None:
    def spoiled(batch: dict[str, Any]) -> dict[str, Any]:
        raise AssertionError("not to be called")

    for train_set in (rows().with_transform(spoiled), rows().with_format("torch")):
        images = opened(train_set).images
        assert images.image(1).tobytes() == noise_image(1).tobytes()


def test_ids_of_rows_are_those_of_their_column() -> None:
    assert opened(rows(id=["q", "r", "s", "t"])).images.ids == ("q", "r", "s", "t")
    assert opened(rows(id=[7, 8, 9, 10])).images.ids == ("7", "8", "9", "10")
    assert opened(rows(id=["q", "q", "s", "t"])).images.ids[0].startswith("000000-")


def test_labels_without_names_are_named_by_themselves() -> None:
    data = {"image": [noise_image(i) for i in range(3)], "label": [5, 3, 5]}
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    found = opened(datasets.Dataset.from_dict(data, features=features))
    assert (found.images.class_names, found.images.labels) == (("3", "5"), (1, 0, 1))


def test_rows_that_cannot_be_used_are_refused() -> None:
    unlabelled = datasets.Dataset.from_dict({"image": [noise_image(0)]}).cast_column(
        "image", datasets.Image()
    )
    with pytest.raises(DataError, match="the label column is not clear"):
        opened(unlabelled)
    with pytest.raises(DataError, match="load it without streaming"):
        opened(rows().to_iterable_dataset())
    with pytest.raises(DataError, match="has the splits test and no train"):
        opened(datasets.DatasetDict({"test": rows()}))
    with pytest.raises(DataError, match=r"1 row has no label .* row 1"):
        opened(
            datasets.Dataset.from_dict(
                {"image": [noise_image(0), noise_image(1)], "label": [0, -1]},
                features=rows().features,
            )
        )


def test_a_path_gives_its_train_split(photo_folder: Path) -> None:
    found = opened(str(photo_folder))
    assert found.splits is not None
    assert found.images is found.splits.train
    assert isinstance(found.form, TupleItems)


def test_labelled_images_are_a_torch_data_set_and_become_a_datasets_one(photo_folder: Path) -> None:
    images = opened(photo_folder).images
    image, label = images[1]
    assert (image.tobytes(), label) == (images.image(1).tobytes(), images.labels[1])
    loader = DataLoader(images, 4, collate_fn=lambda items: [label for _, label in items])
    assert [label for batch in loader for label in batch] == list(images.labels)
    exported = images.to_datasets()
    assert exported.features["label"].names == list(images.class_names)
    assert list(exported["id"]) == list(images.ids)
    assert exported[1]["image"].convert("RGB").tobytes() == image.tobytes()
    in_memory = LabelledImages.from_images([image], [0], class_names=["a", "b"], ids=["x"])
    assert in_memory.to_datasets()[0]["image"].tobytes() == image.tobytes()


@pytest.mark.parametrize("names", ["cat", ["cat", "cat", "dog"]])
def test_class_names_are_a_list_of_different_names(names: Any) -> None:
    with pytest.raises(DataError, match="class_names must be a list of different names"):
        opened(Items(*((noise_image(i), i) for i in range(3))), class_names=names)


def test_a_label_without_end_is_refused() -> None:
    with pytest.raises(DataError, match="the label 10000000000, of classes without names"):
        opened(Items((noise_image(0), 0), (noise_image(1), 10**10)))


@pytest.mark.timeout(20)
def test_a_row_that_names_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])}
    )
    columns = {"image": [str(tmp_path / "pipe.png")], "label": [0]}
    with pytest.raises(DataError, match="row 0 has no readable image"):
        opened(datasets.Dataset.from_dict(columns, features=features))
