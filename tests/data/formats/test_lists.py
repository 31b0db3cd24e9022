"""CSV, TSV and JSON lines that list images: as people and Kaggle write them."""

from __future__ import annotations

import contextlib
import csv
import json
import shutil
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from gendataagent.config import DataConfig, RunConfig
from gendataagent.core.errors import DataError, GenDataAgentError
from gendataagent.data import ImageSplits, load_data
from gendataagent.runs.planning.counts import count_listed

KINDS = ("cat", "dog")


def save(root: Path, *names: str) -> list[str]:
    """Write one image per name; no two have the same bytes."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        save.count += 1  # type: ignore[attr-defined]
        colour = divmod(save.count, 256)  # type: ignore[attr-defined]
        Image.new("RGB", (8, 8), (*colour, 0)).save(path)
    return list(names)


save.count = 0  # type: ignore[attr-defined]


def table(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]], **how: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    encoding = how.pop("encoding", "utf-8")
    with path.open("w", newline="", encoding=encoding) as stream:
        writer = csv.writer(stream, **how)  # type: ignore[arg-type]
        writer.writerows([header, *rows] if header else rows)
    return path


def load(path: Path, **settings: object) -> ImageSplits:
    return load_data(DataConfig(path=str(path), **settings), seed=0)  # type: ignore[arg-type]


def classes(data: ImageSplits) -> dict[str, str]:
    """Return {id: class} over all splits."""
    return {row["id"]: row["class"] for row in data.to_rows()}


def kind_of(number: int) -> str:
    return KINDS[number % 2]


NAMES = [f"{number:03}.png" for number in range(8)]
EXPECTED = {f"images/{name}": kind_of(number) for number, name in enumerate(NAMES)}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    save(tmp_path, *EXPECTED)
    return tmp_path


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("image", "label"), ("filename", "class"), ("file_name", "category"), ("Path", "Target"),
        ("image_id", "breed"), ("File Name", "Class Name"), ("id", "species"), ("img_path", "y"),
        ("Image", "Id"), ("what", "kind"), ("filepaths", "labels"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("form", ["images/{}.png", "{}.png", "{}", "./images/{}.png"])
def test_columns_are_found_whatever_they_are_called(
    images: Path, image: str, label: str, form: str
) -> None:
    rows = [(form.format(Path(name).stem), kind_of(n)) for n, name in enumerate(NAMES)]
    path = table(images / "labels.csv", (image, label), rows)
    assert classes(load(path)) == EXPECTED
    assert classes(load(images)) == EXPECTED


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".CSV"])
def test_delimiter_and_encoding_are_recognised(
    images: Path, delimiter: str, encoding: str, suffix: str
) -> None:
    rows = [(f"images/{name}", f"{kind_of(n)}, \u00e9t\u00e9") for n, name in enumerate(NAMES)]
    path = table(
        images / f"a{suffix}", ("image", "label"), rows, delimiter=delimiter, encoding=encoding
    )
    assert load(path).class_names == ("cat, \u00e9t\u00e9", "dog, \u00e9t\u00e9")


def test_an_index_as_pandas_writes_it_and_a_table_without_header(images: Path) -> None:
    rows = [(n, f"images/{name}", kind_of(n)) for n, name in enumerate(NAMES)]
    assert classes(load(table(images / "a.csv", ("", "image", "kind"), rows))) == EXPECTED
    (images / "a.csv").unlink()
    bare = [row[1:] for row in rows]
    assert classes(load(table(images / "b.csv", (), bare))) == EXPECTED
    assert classes(load(images)) == EXPECTED


def test_numbers_beside_names_are_the_same_labels(images: Path) -> None:
    rows = [(f"images/{name}", n % 2, kind_of(n)) for n, name in enumerate(NAMES)]
    path = table(images / "a.csv", ("filepaths", "class id", "labels"), rows)
    assert classes(load(path)) == EXPECTED


def test_numbers_alone_are_classes_by_number_even_as_pandas_writes_them(images: Path) -> None:
    for form in ("{}", "{}.0"):
        rows = [(f"images/{name}", form.format(n % 2 + 9)) for n, name in enumerate(NAMES)]
        assert load(table(images / "a.csv", ("image", "label"), rows)).class_names == ("9", "10")


def test_class_names_of_any_number_of_digits(images: Path) -> None:
    long = "9" * 5000
    rows = [(f"images/{name}", long if n % 2 else 1) for n, name in enumerate(NAMES)]
    path = table(images / "a.csv", ("image", "label"), rows)
    assert load(path).class_names == ("1", long)


def test_one_column_a_class(images: Path) -> None:
    rows = [(Path(name).stem, 1.0 - n % 2, float(n % 2)) for n, name in enumerate(NAMES)]
    assert classes(load(table(images / "a.csv", ("image_id", *KINDS), rows))) == EXPECTED


@pytest.mark.parametrize("header", ["split", "data set", "subset"])
def test_a_split_column_is_followed(images: Path, header: str) -> None:
    words = ("train", "train", "train", "train", "valid", "valid", "TEST", "test")
    rows = [(f"images/{name}", kind_of(n), words[n]) for n, name in enumerate(NAMES)]
    path = table(images / "a.csv", ("image", "label", header), rows)
    data = load(path)
    assert [len(part) for part in data.by_name().values()] == [4, 2, 2]
    assert data.test.ids == ("images/006.png", "images/007.png")
    assert load(images).test.ids == data.test.ids
    assert "No test split given" in " ".join(load(path, split_column="").notes)
    count = count_listed(RunConfig(data=DataConfig(path=str(path))))
    assert (count.train, count.validation, count.test) == (4, 2, 2)


def test_a_column_groups_images(images: Path) -> None:
    rows = [(name, kind_of(n), f"v{n // 4}") for n, name in enumerate(NAMES)]
    path = table(images / "a.csv", ("image", "label", "video"), rows)
    data = load(path, group_by="video")
    assert "8 images are in 2 groups (column 'video')." in data.notes


def test_splits_of_folders_that_a_table_lists(tmp_path: Path) -> None:
    names = save(tmp_path, *(f"{s}/{n}.png" for s in ("train", "val", "test") for n in range(4)))
    rows = [(name, kind_of(n)) for n, name in enumerate(names)]
    data = load(table(tmp_path / "labels.csv", ("path", "label"), rows))
    assert data.validation.ids == ("val/0.png", "val/1.png", "val/2.png", "val/3.png")


@pytest.mark.parametrize("labels", ["labels.csv", "train.csv", "trainLabels.csv"])
@pytest.mark.parametrize(
    ("train", "test"), [("train", "test"), ("train_images", "test_images"), ("train/train", "test")]
)
@pytest.mark.parametrize("suffix", ["", ".png"])
def test_the_layout_of_kaggle(
    tmp_path: Path, labels: str, train: str, test: str, suffix: str
) -> None:
    save(tmp_path, *(f"{train}/{n}.png" for n in range(8)), *(f"{test}/{n}.png" for n in range(6)))
    table(tmp_path / labels, ("id", "breed"), [(f"{n}{suffix}", kind_of(n)) for n in range(8)])
    table(tmp_path / "test.csv", ("id",), [(f"{n}{suffix}",) for n in range(6)])
    table(
        tmp_path / "sample_submission.csv",
        ("id", *KINDS),
        [(f"{n}{suffix}", 0.5, 0.5) for n in range(6)],
    )
    data = load(tmp_path)
    assert classes(data) == {f"{train}/{n}.png": kind_of(n) for n in range(8)}
    notes = " ".join(data.notes)
    assert "Left out 6 rows of test.csv: it has no label column." in notes
    assert "Left out 6 images without a label" in notes
    assert "Ignored forms for predictions: sample_submission.csv." in notes


def test_the_same_name_in_two_folders_is_refused(tmp_path: Path) -> None:
    save(tmp_path, *(f"{place}/{n}.png" for place in ("left", "right") for n in range(4)))
    path = table(tmp_path / "a.csv", ("id", "label"), [(n, kind_of(n)) for n in range(4)])
    with pytest.raises(DataError, match=r"a\.csv, line 2 names the image '0', which may be left/0"):
        load(path)
    with pytest.raises(DataError, match=r"a\.csv lists .* data\.layout=table"):
        load(tmp_path)
    assert len(classes(load(path, image_root=str(tmp_path / "left")))) == 4
    assert len(classes(load(tmp_path, image_root=str(tmp_path / "left")))) == 4


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("per_split", [False, True])
def test_metadata_of_an_image_folder(tmp_path: Path, kind: str, per_split: bool) -> None:
    for split in ("train", "test") if per_split else ("",):
        rows = [
            {"file_name": name.removeprefix("train/").removeprefix("test/"), "label": kind_of(n)}
            for n, name in enumerate(save(tmp_path, *(f"{split or 'x'}/{n}.png" for n in range(6))))
        ]
        path = tmp_path / split / f"metadata.{kind}"
        if kind == "csv":
            table(path, list(rows[0]), [list(row.values()) for row in rows])
        elif kind == "jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        else:
            pq.write_table(pa.Table.from_pylist(rows), path)
    data = load(tmp_path)
    assert len(classes(data)) == (12 if per_split else 6)
    assert all(kind_of(int(id_[-5])) == name for id_, name in classes(data).items())
    if per_split:
        assert all(id_.startswith("test/") for id_ in data.test.ids)


def test_what_datasets_writes_as_an_image_folder_with_integers(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    names = save(tmp_path, *(f"{n}.png" for n in range(8)))
    kinds = datasets.Features(
        file_name=datasets.Value("string"), label=datasets.ClassLabel(names=["zebra", "ant"])
    )
    rows = {"file_name": names, "label": [n % 2 for n in range(8)]}
    datasets.Dataset.from_dict(rows, features=kinds).to_parquet(tmp_path / "metadata.parquet")
    data = load(tmp_path)
    assert data.class_names == ("zebra", "ant")
    assert classes(data)["1.png"] == "ant"


def test_a_table_that_repeats_the_class_folders_changes_nothing(tmp_path: Path) -> None:
    names = save(tmp_path, *(f"{kind}/{n}.png" for kind in KINDS for n in range(4)))
    plain = load(tmp_path)
    table(tmp_path / "all.csv", ("path", "kind", "width"), [(n, n[:3], 8) for n in names])
    assert load(tmp_path).fingerprint == plain.fingerprint
    table(
        tmp_path / "all.csv",
        ("path", "kind", "split"),
        [
            (name, name[:3], ("train", "train", "val", "test")[n % 4])
            for n, name in enumerate(names)
        ],
    )
    assert load(tmp_path).test.ids == ("cat/3.png", "dog/3.png")


@pytest.mark.parametrize("content", ['image,label\n"a/0.png,dog', "image,label\n\xe9", "a,b\n1"])
def test_a_table_that_cannot_be_read_beside_class_folders_is_said_or_refused(
    tmp_path: Path, content: str
) -> None:
    save(tmp_path, *(f"{kind}/{n}.png" for kind in KINDS for n in range(6)))
    (tmp_path / "labels.csv").write_bytes(content.encode("latin-1"))
    data = load(tmp_path)
    assert data.class_names == KINDS
    assert any(note.startswith("Ignored tables beside the images: cannot") for note in data.notes)
    (tmp_path / "labels.csv").rename(tmp_path / "metadata.csv")
    with pytest.raises(DataError, match=r"cannot read .*metadata\.csv.*data\.layout=folder"):
        load(tmp_path)
    assert load(tmp_path, layout="folder").class_names == KINDS


def test_a_table_with_other_classes_than_the_folders_is_refused(tmp_path: Path) -> None:
    names = save(tmp_path, *(f"part_{part}/{n}{part}.png" for part in (1, 2) for n in range(4)))
    rows = [(Path(name).stem, kind_of(n // 2), n) for n, name in enumerate(names)]
    table(tmp_path / "meta.csv", ("image_id", "dx", "age"), rows)
    with pytest.raises(DataError, match=r"meta\.csv lists .*image_id, dx, age.*data\.layout=table"):
        load(tmp_path)
    with pytest.raises(DataError, match=r"no label column .* image_id, dx, age\. Set data\.label"):
        load(tmp_path, layout="table")
    data = load(tmp_path, layout="table", label_column="dx")
    assert data.class_names == KINDS
    assert load(tmp_path, layout="folder").class_names == ("part 1", "part 2")


def test_missing_images_and_repeated_rows_are_said(images: Path) -> None:
    rows = [(f"images/{name}", kind_of(n)) for n, name in enumerate(NAMES)]
    path = table(images / "a.csv", ("image", "label"), [*rows, rows[0], ("images/x.png", "cat")])
    data = load(path)
    assert classes(data) == EXPECTED
    (bad,) = data.quarantined
    assert (bad.name, bad.reason) == (
        "images/x.png", "a.csv, line 11 names it, but there is no such image"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"a\.csv has no rows"),
        ("image,label\n", r"a\.csv has no rows \(columns image, label\)"),
        ("x,label\n1,cat\n2,dog\n", r"a\.csv: no column leads to an image below .*x \('1'\)"),
        ("image,label\nimages/000.png,cat\nimages/001.png\n", r"line 3 has 1 fields, the first"),
        ("image,label\nimages/000.png,cat\nimages/001.png,dog,x\n", r"line 3 has 3 fields"),
        ('image,label\nimages/000.png,"cat\nimages/001.png,dog\n', "cannot read .*unexpected end"),
        ("image,image\nimages/000.png,cat\n", "several columns named image"),
        ("image,label\n" + "x" * 200_000 + ",cat\n", "field larger than field limit"),
        (
            "image,label\nimages/000.png,cat\nimages/000.png,dog\n",
            r"a\.csv, line 2 and a\.csv, line 3 both name images/000\.png, as 'cat' in train",
        ),
        (
            "image,label\nimages/000.png,cat\nimages/001.png,\nimages/002.png,dog\n",
            r"1 row has no label .*: a\.csv, line 3\.",
        ),
        (
            "image,breed,species\nimages/000.png,a,b\nimages/001.png,b,b\n",
            r"breed and species could each be the label column; .*Set data\.label_column",
        ),
        (
            "image,width,height\nimages/000.png,1,2\nimages/001.png,3,4\n",
            r"no label column was recognised; the columns are image, width, height",
        ),
        (
            "left,right,label\nimages/000.png,images/001.png,a\nimages/002.png,images/003.png,b\n",
            r"left and right could each be the image column; .*Set data\.image_column",
        ),
        (
            "image,label,split\nimages/000.png,a,train\nimages/001.png,b,fold1\n",
            r"the column 'split' says 'fold1', allowed .*data\.split_column",
        ),
        (
            "image,label,split\nimages/000.png,a,val\nimages/001.png,b,test\n",
            r"images of test and validation, but none of train",
        ),
        ("image,text\n" + "".join(f"images/00{n}.png,t{n}\n" for n in range(8)), "no label column"),
    ],
)  # fmt: skip
def test_tables_that_are_refused(images: Path, content: str, message: str) -> None:
    (images / "a.csv").write_text(content)
    with pytest.raises(DataError, match=message):
        load(images / "a.csv")
    if content:
        with pytest.raises(DataError, match=message):
            load(images)
    with pytest.raises(DataError, match=message):
        count_listed(RunConfig(data=DataConfig(path=str(images / "a.csv"))))


@pytest.mark.parametrize("setting", ["image_column", "label_column", "split_column"])
def test_a_column_that_is_not_there_is_named(images: Path, setting: str) -> None:
    rows = [(f"images/{name}", kind_of(n)) for n, name in enumerate(NAMES)]
    path = table(images / "a.csv", ("image", "label"), rows)
    with pytest.raises(DataError, match=rf"no column 'nope' \(data\.{setting}\); .* image, label"):
        load(path, **{setting: "nope"})


@pytest.mark.parametrize(
    "path",
    ["../private/5.png", "images/../../private/5.png", "/etc/x.png", "C:\\x.png",
     "..\\private\\5.png", "\\\\server\\x.png", "..", "link.png", "{private}"],
)  # fmt: skip
def test_a_path_outside_the_data_is_refused_by_line(tmp_path: Path, path: str) -> None:
    root = tmp_path / "data"
    save(root, *EXPECTED)
    save(tmp_path, "private/5.png")
    (root / "link.png").symlink_to(tmp_path / "private/5.png")
    path = path.format(private=tmp_path / "private/5.png")
    rows = [(f"images/{name}", kind_of(n)) for n, name in enumerate(NAMES)]
    file = table(root / "a.csv", ("image", "label"), [*rows, (path, "cat")])
    for place in (file, root):
        with pytest.raises(DataError, match=r"a\.csv, line 10 names .*outside.*data\.image_root"):
            load(place)


def test_a_table_in_a_folder_of_its_own_and_absolute_paths(images: Path) -> None:
    rows = [(f"../images/{name}", kind_of(n)) for n, name in enumerate(NAMES)]
    path = table(images / "lists/all.csv", ("image", "label"), rows)
    assert classes(load(images)) == EXPECTED
    with pytest.raises(DataError, match=r"data\.image_root"):
        load(path)
    rows = [(str(images / "images" / name), kind_of(n)) for n, name in enumerate(NAMES)]
    table(path, ("image", "label"), rows)
    assert classes(load(path, image_root=str(images))) == EXPECTED


def test_text_that_is_not_utf_8_is_refused(images: Path) -> None:
    (images / "a.csv").write_bytes(b"image,label\nimages/000.png,\xe9t\xe9\n")
    with pytest.raises(DataError, match=r"cannot read .*a\.csv: .*Save it again as UTF-8"):
        load(images / "a.csv")


def test_json_lines_that_are_refused(images: Path) -> None:
    for content, message in (
        ("{", "line 1 is not JSON"),
        ('{"file_name": "images/000.png", "label": "a"}\n[1]\n', "line 2 is not a JSON object"),
        ("[" * 100_000, "nested too deeply"),
    ):
        (images / "metadata.jsonl").write_text(content)
        with pytest.raises(DataError, match=message):
            load(images / "metadata.jsonl")


CELLS = st.one_of(
    st.text(max_size=8),
    st.sampled_from(["a.png", "a", "../a.png", "sub/b.png", "/etc/passwd", "cat", "", "-1", "\0"]),
)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    max_examples=settings().max_examples // 2,
)
@given(
    rows=st.lists(st.lists(CELLS, max_size=3), max_size=6),
    raw=st.none() | st.binary(max_size=80),
    name=st.sampled_from(["a.csv", "a.tsv", "metadata.jsonl"]),
)
def test_any_table_is_images_or_a_sentence(
    tmp_path: Path, rows: list[list[str]], raw: bytes | None, name: str
) -> None:
    root = tmp_path / "data"
    save(root, "a.png", "sub/b.png")
    try:
        if raw is not None:
            (root / name).write_bytes(raw)
        else:
            with contextlib.suppress(UnicodeEncodeError):
                table(root / name, ("image", "label", "split"), rows)
        for path in (root, root / name):
            with contextlib.suppress(GenDataAgentError):
                load(path)
    finally:
        shutil.rmtree(root)


@pytest.mark.parametrize(
    "boxes",
    [("xmin", "ymin", "xmax", "ymax"), ("x1", "y1", "x2", "y2"), ("XMin", "XMax", "YMin", "YMax"),
     ("x", "y", "width", "height"), ("bbox",), ("bbox_x", "bbox_y", "bbox_w", "bbox_h")],
)  # fmt: skip
def test_boxes_of_a_table_are_said_not_to_be_cut_out(images: Path, boxes: tuple[str]) -> None:
    rows = [(f"images/{name}", kind_of(n), *[n] * len(boxes)) for n, name in enumerate(NAMES)]
    path = table(images / "a.csv", ("image", "label", *boxes), [*rows, rows[0]])
    said = f"a.csv has boxes ({boxes[0]}"
    notes = load(path, label_column="label").notes
    assert any(note.startswith(said) for note in notes), notes
    table(path, ("image", "label", *boxes), [*rows, (rows[0][0], "dog", *rows[0][2:])])
    with pytest.raises(DataError, match=r"both name images/000\.png.*a\.csv has boxes.*COCO and"):
        load(path, label_column="label")


LABELS = st.sampled_from([
    "cat", "Cat", "dog", "1", "01", "1.0", "1e3", "10", "007", "nan", "None", "-1", "x,y", '"z"',
    "a/b", "train", "0.5", "\u00e9", "e\u0301", " cat ", "n02123045", "n02124075", "2" * 20,
])  # fmt: skip
EXTRAS = {
    "": range(8), "width": [8] * 8, "fold": [n % 4 for n in range(8)], "score": [0.5] * 8,
    "comment": ["fine, \nit is"] * 8, "hash": [f"{n:08x}" for n in range(8)],
    "url": [f"https://example.org/{n}.png" for n in range(8)],
}  # fmt: skip


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    max_examples=settings().max_examples // 5,
)
@given(
    labels=st.lists(LABELS, min_size=8, max_size=8),
    order=st.permutations(range(8)),
    extras=st.lists(st.sampled_from(sorted(EXTRAS)), max_size=2, unique=True),
    first=st.booleans(),
    form=st.sampled_from(["{}", "{}.png", "train/{}.png"]),
    how=st.sampled_from([",", ";", "\t", "|"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_a_download_of_kaggle_has_the_labels_of_its_table_or_is_refused(
    images_of_kaggle: Path, labels: list[str], order: list[int], extras: list[str], first: bool,
    form: str, how: str, encoding: str,
) -> None:  # fmt: skip
    header = [*extras, "id", "breed"] if first else ["id", "breed", *extras]
    rows = []
    for n in order:
        own, more = [form.format(n), labels[n]], [EXTRAS[name][n] for name in extras]
        rows.append([*more, *own] if first else [*own, *more])
    table(images_of_kaggle / "train.csv", header, rows, delimiter=how, encoding=encoding)
    with contextlib.suppress(DataError):
        data = load(images_of_kaggle)
        found = classes(data)
        written = {f"train/{n}.png": unicodedata.normalize("NFC", labels[n].strip()) for n in order}
        assert found.keys() == written.keys()
        assert len({(found[id_], written[id_]) for id_ in found}) == len(set(found.values()))


@pytest.fixture
def images_of_kaggle(tmp_path: Path) -> Path:
    save(tmp_path, *(f"train/{n}.png" for n in range(8)), *(f"test/{n}.png" for n in range(2)))
    table(tmp_path / "sample_submission.csv", ("id", "breed"), [(n, "cat") for n in range(2)])
    return tmp_path


def test_numbers_that_mean_no_label_are_those_of_every_table(images: Path) -> None:
    rows = [(f"images/{name}", n % 2) for n, name in enumerate(NAMES)]
    for number in (255, -1, ""):
        path = table(images / "a.csv", ("image", "label"), [*rows[:-1], (rows[-1][0], number)])
        with pytest.raises(DataError, match=r"1 row has no label .*: a\.csv, line 9\."):
            load(path)
    path = table(images / "a.csv", ("image", "label"), [*rows[:-1], (rows[-1][0], -2)])
    with pytest.raises(DataError, match=r"a\.csv, line 9: the label in column 'label' is -2"):
        load(path)
    path = table(images / "a.csv", ("image", "label"), [(name, f"00{n}") for name, n in rows])
    assert load(path).class_names == ("000", "001")
