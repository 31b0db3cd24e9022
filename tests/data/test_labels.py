"""Labels by name: between files of a table, splits of a saved set, and lists of class names."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from gendataagent.config import DataConfig
from gendataagent.core.errors import DataError
from gendataagent.data import ImageSplits, LabelledImages, MemoryStore, load_data
from gendataagent.data.labels import match_classes, relabelled, same_classes
from gendataagent.data.loading import load_to_measure

ANIMALS = ("cow", "bee", "ant")
RED = {"cow": 200, "bee": 100, "ant": 0}  # the colour says which class an image truly has


def image_of(animal: str, number: int) -> dict[str, Any]:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), (RED[animal], number, 0)).save(buffer, format="PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def write(path: Path, animals: list[str], labels: list[Any], names: list[str] | None) -> None:
    """Write a table; with `names` as Hugging Face datasets does, else as pandas does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [image_of(animal, number) for number, animal in enumerate(animals)]
    table = pa.table({"image": images, "label": labels})
    if names is not None:
        kinds = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
        info = json.dumps({"info": {"features": kinds}}).encode()
        table = table.replace_schema_metadata({b"huggingface": info})
    pq.write_table(table, path)


def load(path: Path, **settings: Any) -> ImageSplits:
    return load_data(DataConfig(path=str(path), near_duplicates="off", **settings), seed=0)


def wrong(images: LabelledImages) -> list[str]:
    """Return the ids of images whose label is not the class they show."""
    return [
        source
        for number, source in enumerate(images.ids)
        if images.image(number).getpixel((0, 0))[0]  # type: ignore[index]
        != RED[images.class_names[images.labels[number]]]
    ]


def all_right(data: ImageSplits) -> bool:
    return not any(wrong(images) for images in data.by_name().values())


def coded(animals: list[str], names: list[str]) -> list[int]:
    return [names.index(animal) for animal in animals]


SIX = [*ANIMALS, *ANIMALS]


@pytest.mark.parametrize(
    "test_names",
    [["ant", "bee", "cow"], ["cow", "ant", "bee"], ["bee", "dog", "ant", "cow"]],
)
def test_files_with_other_orders_of_class_names(tmp_path: Path, test_names: list[str]) -> None:
    names = list(ANIMALS)
    write(tmp_path / "train.parquet", SIX, coded(SIX, names), names)
    write(tmp_path / "test.parquet", SIX, coded(SIX, test_names), test_names)
    data = load(tmp_path)
    assert all_right(data)
    assert data.class_names == ANIMALS  # the order of train
    assert any("ordered differently" in note for note in data.notes)


def test_a_file_that_lacks_a_class(tmp_path: Path) -> None:
    names, fewer = list(ANIMALS), ["ant", "cow"]
    write(tmp_path / "train.parquet", SIX, coded(SIX, names), names)
    animals = ["cow", "ant", "cow"]
    write(tmp_path / "test.parquet", animals, coded(animals, fewer), fewer)
    assert all_right(load(tmp_path))


def test_shards_of_train_with_other_orders(tmp_path: Path) -> None:
    for number, names in enumerate((["cow", "bee", "ant"], ["ant", "bee", "cow"], ["bee", "cow"])):
        animals = [animal for animal in SIX if animal in names]
        path = tmp_path / f"train-{number:05d}-of-00003.parquet"
        write(path, animals, coded(animals, names), names)
    assert all_right(load(tmp_path))


@pytest.mark.parametrize("named", ["train", "test"])
def test_names_come_from_whichever_file_has_them(tmp_path: Path, named: str) -> None:
    names = list(ANIMALS)
    for split in ("train", "validation", "test"):
        path = tmp_path / f"{split}.parquet"
        write(path, SIX, coded(SIX, names), names if split == named else None)
    data = load(tmp_path)
    assert data.class_names == ANIMALS
    assert all_right(data)
    (note,) = [note for note in data.notes if "without class names" in note]
    assert f"read as those of {named}.parquet: 'cow', 'bee', 'ant'" in note


def test_the_label_column_is_found_by_whichever_file_states_its_type(tmp_path: Path) -> None:
    write(tmp_path / "train.parquet", SIX, coded(SIX, list(ANIMALS)), list(ANIMALS))
    write(tmp_path / "test.parquet", SIX, coded(SIX, list(ANIMALS)), None)
    for path in tmp_path.iterdir():
        table = pq.read_table(path)
        metadata = {
            key: value.replace(b'"label"', b'"animal"')
            for key, value in (table.schema.metadata or {}).items()
        }
        table = table.rename_columns(["image", "animal"]).replace_schema_metadata(metadata)
        pq.write_table(table, path)
    assert all_right(load(tmp_path))


@pytest.mark.parametrize("storage", ["text", "category", "numbers"])
def test_text_meets_class_labels_by_name(tmp_path: Path, storage: str) -> None:
    names = ["bee", "cow", "ant"]
    write(tmp_path / "train.parquet", SIX, coded(SIX, names), names)
    labels: Any = pa.array(SIX)
    if storage == "category":
        labels = labels.dictionary_encode()
    if storage == "numbers":
        labels = [float(number) for number in coded(SIX, names)]
    write(tmp_path / "test.parquet", SIX, labels, None)
    assert all_right(load(tmp_path))


def test_integers_that_two_files_read_differently_are_refused(tmp_path: Path) -> None:
    names = list(ANIMALS)
    write(tmp_path / "train.parquet", SIX, coded(SIX, names), names)
    write(tmp_path / "validation.parquet", SIX, coded(SIX, names[::-1]), names[::-1])
    write(tmp_path / "test.parquet", SIX, coded(SIX, names), None)
    with pytest.raises(DataError) as error:
        load(tmp_path)
    assert "test.parquet has integers as labels and no class names" in str(error.value)
    assert "train.parquet has 'cow', 'bee', 'ant'" in str(error.value)
    assert "validation.parquet has 'ant', 'bee', 'cow'" in str(error.value)


@pytest.mark.parametrize("split", ["test", "train-1"])
def test_integers_beside_text_are_refused(tmp_path: Path, split: str) -> None:
    write(tmp_path / "train.parquet", SIX, SIX, None)
    write(tmp_path / f"{split}.parquet", SIX, coded(SIX, list(ANIMALS)), None)
    with pytest.raises(DataError, match=r"has '0', '1', '2'; train.parquet has 'ant', 'bee', 'cow"):
        load(tmp_path)


def test_integers_written_as_text_beside_class_names_are_refused(tmp_path: Path) -> None:
    names = list(ANIMALS)
    write(tmp_path / "train.parquet", SIX, coded(SIX, names), names)
    text = [str(number) for number in coded(SIX, names)]
    write(tmp_path / "test.parquet", SIX, text, None)
    with pytest.raises(DataError, match=r"test.parquet has '0', '1', '2'; train.parquet has 'cow'"):
        load(tmp_path)


def test_integers_outside_the_borrowed_names_are_refused(tmp_path: Path) -> None:
    """Counted from one, as in a list of another program."""
    names = list(ANIMALS)
    write(tmp_path / "train.parquet", SIX, coded(SIX, names), names)
    write(tmp_path / "test.parquet", SIX, [n + 1 for n in coded(SIX, names)], None)
    with pytest.raises(DataError, match=r"test.parquet#2: .* is 3, allowed are integers below 3"):
        load(tmp_path)


def test_a_name_twice_in_one_file_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", SIX, [0, 1, 2, 0, 1, 2], ["cow", "bee", "cow"])
    with pytest.raises(DataError, match=r"a.parquet has the same name for two classes: cow"):
        load(tmp_path)


def test_text_and_integers_that_are_the_same_numbers(tmp_path: Path) -> None:
    numbers = [7, 10, 9, 7, 10, 9]
    write(tmp_path / "train.parquet", SIX, numbers, None)
    write(tmp_path / "test.parquet", SIX, [str(number) for number in numbers], None)
    data = load(tmp_path)
    assert data.class_names == ("7", "9", "10")
    assert data.test.labels == (0, 2, 1, 0, 2, 1)
    assert any("numbers without names" in note for note in data.notes)


@pytest.mark.parametrize("other", ["Cow", "c\u200bow", "ｃｏｗ"])
def test_names_that_differ_in_case_only_are_noted(tmp_path: Path, other: str) -> None:
    labels = [other, "bee", "cow", other, "bee", "cow"]
    write(tmp_path / "a.parquet", SIX, labels, None)
    (note,) = [note for note in load(tmp_path).notes if "only case" in note]
    assert " and ".join(map(repr, sorted([other, "cow"]))) in note


@pytest.mark.parametrize("as_shards", [False, True])
def test_splits_of_a_saved_data_set(tmp_path: Path, as_shards: bool) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()

    def part(names: list[str]) -> Any:
        kinds = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=names))
        rows = {"image": [image_of(a, n) for n, a in enumerate(SIX)], "label": coded(SIX, names)}
        return datasets.Dataset.from_dict(rows, features=kinds)

    data = datasets.DatasetDict(train=part(list(ANIMALS)), test=part(["ant", "cow", "bee"]))
    data.save_to_disk(tmp_path / "saved", num_shards={"train": 1 + as_shards, "test": 1})
    assert all_right(load(tmp_path / "saved"))
    info = tmp_path / "saved" / "test" / "dataset_info.json"  # what load_from_disk goes by
    info.write_text(info.read_text().replace('"bee"', '"calf"').replace('"cow"', '"bee"'))
    with pytest.raises(DataError, match="test split has images of"):
        load(tmp_path / "saved")


def unlabelled_table(path: Path, missing: Any) -> None:
    labels: list[Any] = [missing] * 6
    if missing is None:
        write(path, SIX, pa.array(labels, pa.int64()), None)
    else:
        write(path, SIX, labels, None)


@pytest.mark.parametrize("missing", [-1, -1.0, None, "", " ", "-1", float("nan")])
def test_a_test_split_without_labels_is_ignored_however_it_says_so(
    tmp_path: Path, missing: Any
) -> None:
    names = list(ANIMALS)
    text = isinstance(missing, str)
    for labels, kept in ((coded(SIX, names), None), (coded(SIX, names), names), (SIX, None)):
        if text != (labels is SIX):
            continue
        write(tmp_path / "train.parquet", [*SIX, *SIX], [*labels, *labels], kept)
        unlabelled_table(tmp_path / "test.parquet", missing)
        data = load(tmp_path)
        assert "Ignored the test split: it has no labels." in data.notes
        assert len(data.class_names) == 3
        assert len(data.test) == 3


UNSIGNED = [(255, "uint8"), (65535, "uint16"), (2**32 - 1, "uint32"), (2**64 - 1, "uint64")]


@pytest.mark.parametrize(("value", "kind"), UNSIGNED)
@pytest.mark.parametrize("stored", ["own", "int64", "float64", "named", "text"])
def test_minus_one_without_a_sign_is_no_label(
    tmp_path: Path, value: int, kind: str, stored: str
) -> None:
    """A test split of a competition: all labels -1, as an unsigned number."""
    if (stored, kind) == ("int64", "uint64") or (stored == "text" and value < 2**32 - 1):
        return
    names = list(ANIMALS)
    text = stored == "text"
    write(tmp_path / "train.parquet", [*SIX, *SIX], SIX * 2 if text else coded(SIX, names) * 2,
          names if stored == "named" else None)  # fmt: skip
    type_ = pa.string() if text else kind if stored in ("own", "named") else stored
    labels = [str(value)] * 6 if text else pa.array(np.full(6, value, kind)).cast(type_, safe=False)
    write(tmp_path / "test.parquet", SIX, labels, None)
    data = load(tmp_path)
    assert "Ignored the test split: it has no labels." in data.notes
    assert len(data.class_names) == 3


@pytest.mark.parametrize(("value", "kind"), UNSIGNED)
def test_a_row_with_minus_one_without_a_sign_is_named(
    tmp_path: Path, value: int, kind: str
) -> None:
    write(tmp_path / "train.parquet", SIX, pa.array([0, 1, 2, value, 1, 2], kind), None)
    with pytest.raises(DataError, match=r"1 row has no label .*unsigned.*train\.parquet#3"):
        load(tmp_path)


@pytest.mark.parametrize("labels", [[254, 255], [255, 300], [255, 256], [65534, 65535, 7]])
def test_numbers_of_that_many_classes_are_classes(tmp_path: Path, labels: list[int]) -> None:
    write(tmp_path / "train.parquet", SIX, labels * (6 // len(labels)), None)
    assert set(load(tmp_path).class_names) == {str(label) for label in labels}


def test_a_number_with_a_name_is_a_class(tmp_path: Path) -> None:
    names = [f"class {number}" for number in range(256)]
    write(tmp_path / "train.parquet", SIX, [0, 255] * 3, names)
    assert {"class 0", "class 255"} <= set(load(tmp_path).class_names)
    write(tmp_path / "train.parquet", SIX, ["0", "255"] * 3, None)
    assert load(tmp_path).class_names == ("0", "255")  # text is a name


@pytest.mark.parametrize("value", [-2, -100, -(2**31), -(2**63), -56])
def test_other_negative_numbers_are_refused_by_name(tmp_path: Path, value: int) -> None:
    """ignore_index of torch, NaN cast to an integer, a class above 127 in 8 bits."""
    write(tmp_path / "train.parquet", SIX, [0, 1, 2, value, 1, 2], None)
    with pytest.raises(DataError, match=rf"train\.parquet#3: .* is {value}, .*integers from 0 on"):
        load(tmp_path)


def test_a_class_folder_named_minus_one_is_no_class(tmp_path: Path) -> None:
    for animal in ("cow", "bee", "-1"):
        (tmp_path / animal).mkdir()
        for number in range(4):
            content = image_of("cow", number)["bytes"] + animal.encode()
            (tmp_path / animal / f"{number}.png").write_bytes(content)
    data = load(tmp_path)
    assert data.class_names == ("bee", "cow")
    assert any("Ignored 4 images without a label" in note for note in data.notes)


@pytest.mark.parametrize("split", ["test", "validation", "train"])
@pytest.mark.parametrize("kind", ["folder", "parquet", "saved"])
def test_one_class_of_one_split_can_be_measured(tmp_path: Path, split: str, kind: str) -> None:
    root = tmp_path / "data"
    animals = ["bee", "bee"]
    if kind == "folder":
        (root / split / "bee").mkdir(parents=True)
        for number, _ in enumerate(animals):
            (root / split / "bee" / f"{number}.png").write_bytes(image_of("bee", number)["bytes"])
    elif kind == "parquet":
        write(root / f"{split}.parquet", animals, animals, None)
    else:
        datasets = pytest.importorskip("datasets")
        datasets.disable_progress_bars()
        kinds = datasets.Features(
            image=datasets.Image(), label=datasets.ClassLabel(names=list(ANIMALS))
        )
        rows = {"image": [image_of("bee", n) for n in (0, 1)], "label": [1, 1]}
        part = datasets.Dataset.from_dict(rows, features=kinds)
        datasets.DatasetDict({split: part}).save_to_disk(root)
    found = load_to_measure(DataConfig(path=str(root)))
    assert found.images.class_names == ("bee",)
    assert found.images.labels == (0, 0)
    assert not wrong(found.images)
    assert not [note for note in found.notes if "training" in note]


def test_train_and_test_without_validation_are_all_measured(tmp_path: Path) -> None:
    write(tmp_path / "validation.parquet", SIX, SIX, None)
    write(tmp_path / "test.parquet", SIX, SIX, None)
    assert len(load_to_measure(DataConfig(path=str(tmp_path))).images) == 12
    unlabelled_table(tmp_path / "train.parquet", "")
    found = load_to_measure(DataConfig(path=str(tmp_path)))
    assert len(found.images) == 12
    assert "Ignored the train split: it has no labels." in found.notes


def test_columns_of_the_settings_are_read_where_they_are(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", SIX, SIX, None)
    other = ["other"] * len(SIX)
    table = pq.read_table(tmp_path / "a.parquet").append_column("kind", pa.array(other))
    pq.write_table(table, tmp_path / "a.parquet")
    config = DataConfig(path=str(tmp_path), label_column="kind")
    assert load_to_measure(config).images.class_names == ("other",)
    pq.write_table(table.drop_columns(["kind"]), tmp_path / "a.parquet")
    found = load_to_measure(config)
    assert not wrong(found.images)
    assert any("no column 'kind'" in note for note in found.notes)


def test_one_image_of_two_classes_is_noted_where_it_is_measured(tmp_path: Path) -> None:
    for name in ("cow", "bee"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").write_bytes(image_of("cow", 0)["bytes"])
    note = "Images that occur with two different classes: 1 (first: bee/a.png = cow/a.png)."
    assert note in load_to_measure(DataConfig(path=str(tmp_path))).notes


def test_nothing_to_measure(tmp_path: Path) -> None:
    unlabelled_table(tmp_path / "a.parquet", "")
    with pytest.raises(DataError, match="holds no labelled images"):
        load_to_measure(DataConfig(path=str(tmp_path)))
    (tmp_path / "f" / "cow").mkdir(parents=True)
    (tmp_path / "f" / "cow" / "a.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"no image in .* can be read: cow/a.png"):
        load_to_measure(DataConfig(path=str(tmp_path / "f")))


def test_classes_are_matched_by_name_then_by_what_it_reads_as() -> None:
    known = ("Apple pie", "a_b", "a b", "tabby cat")
    assert match_classes(("apple_pie", "a b", "n02123045"), known) == (0, 2, 3)
    assert match_classes(("A B", "apple"), known) == (None, None)  # which of the two?
    assert match_classes(("Apple_Pie", "apple pie"), known) == (None, None)  # two would be one
    assert match_classes(("001.Apple_pie",), known) == (0,)
    assert same_classes(("tabby_cat", "a b", "a_b", "apple_pie"), known) == (3, 2, 1, 0)
    assert same_classes(("a b", "a_b"), known) is None


def test_relabelling_says_both_lists() -> None:
    images = LabelledImages(
        class_names=("bee", "cow"),
        ids=("x", "y", "z"),
        labels=(0, 1, 1),
        rows=(0, 1, 2),
        store=MemoryStore((b"", b"", b"")),
    )
    assert relabelled(images, ANIMALS, "the classifier").labels == (1, 0, 0)
    with pytest.raises(DataError) as error:
        relabelled(images, ("bee", "ant"), "the classifier")
    assert "the classifier has no class cow" in str(error.value)
    assert "the data has 'bee', 'cow'; the classifier has 'bee', 'ant'" in str(error.value)


def test_a_test_file_without_a_label_column_is_unlabelled(tmp_path: Path) -> None:
    animals = ["cow", "bee", "ant"] * 4
    write(tmp_path / "train.parquet", animals, [0, 1, 2] * 4, list(ANIMALS))
    images = pa.table({"image": [image_of(animal, 7) for animal in animals]})
    pq.write_table(images, tmp_path / "test.parquet")
    data = load(tmp_path)
    assert all_right(data)
    assert "Ignored the test split: it has no labels." in data.notes
    pq.write_table(images, tmp_path / "train-2.parquet")
    with pytest.raises(DataError, match=r"train-2\.parquet has no column label"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["", " ", "-1", "nan"])
def test_a_class_whose_name_says_nothing_is_no_label(tmp_path: Path, name: str) -> None:
    names = ["cow", "bee", name, name]
    write(tmp_path / "train.parquet", ["cow", "bee"] * 4, [0, 1] * 4, names)
    assert load(tmp_path).class_names == ("cow", "bee")
    write(tmp_path / "train.parquet", ["cow", "bee", "ant"] * 4, [0, 1, 2] * 4, names)
    with pytest.raises(DataError, match=r"4 rows have no label .*train\.parquet#2"):
        load(tmp_path)


def test_class_names_by_number_with_a_gap_are_refused(tmp_path: Path) -> None:
    names: Any = {"0": "cow", "2": "bee", "3": "ant"}
    write(tmp_path / "train.parquet", ["cow", "bee", "ant"] * 4, [0, 2, 3] * 4, names)
    with pytest.raises(
        DataError, match=r"train\.parquet: it names the numbers 0, 2, 3; needed are"
    ):
        load(tmp_path)


def test_white_space_around_a_label_is_no_part_of_it(tmp_path: Path) -> None:
    animals = ["cow", "bee", "ant"] * 4
    write(tmp_path / "train.parquet", animals, [0, 1, 2] * 4, ["cow ", "bee", "ant"])
    write(
        tmp_path / "test.parquet",
        animals,
        [f"\ufeff {animal}\u00a0\u200b" for animal in animals],
        None,
    )
    data = load(tmp_path)
    assert all_right(data)
    assert data.class_names == ANIMALS


@pytest.mark.parametrize(
    "text",
    [
        "-1.0",
        "\u200b",
        " -1 ",
        "-1.00",
        "-1.",
        "\u22121",
        "NaN",
        " nan",
        "-nan",
        "4294967295.0",
    ],
)
def test_text_that_says_nothing_is_no_label(tmp_path: Path, text: str) -> None:
    write(
        tmp_path / "train.parquet",
        ["cow", "bee", "ant"] * 2,
        [text, *["cow", "bee"] * 2, "ant"],
        None,
    )
    with pytest.raises(DataError, match=r"1 row has no label .*train\.parquet#0"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["None", "NULL", "<NA>", "n/a"])
def test_names_that_may_mean_missing_are_noted(tmp_path: Path, name: str) -> None:
    write(tmp_path / "train.parquet", ["cow", "bee", "ant"] * 4, ["cow", "bee", name] * 4, None)
    assert any(
        f"may mean that the label is missing: {name}" in note for note in load(tmp_path).notes
    )
