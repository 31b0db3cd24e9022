"""WebDataset shards as tarfile and the webdataset library write them."""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import tarfile
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from gendataagent.config import DataConfig, RunConfig
from gendataagent.core.errors import DataError, GenDataAgentError
from gendataagent.data import ImageSplits, load_data, scan
from gendataagent.runs.planning.counts import count_listed


def png(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (number, 90, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def pack(path: Path, files: Iterable[tuple[str, bytes]], mode: str = "w") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in files:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def samples(
    start: int, count: int, label: str = "cls", image: str = "png"
) -> list[tuple[str, bytes]]:
    files = []
    for number in range(start, start + count):
        files.append((f"{number:06}.{image}", png(number)))
        text = {
            "cls": str(number % 2),
            "json": json.dumps({"label": ("cat", "dog")[number % 2], "width": 8}),
            "txt": ("cat", "dog")[number % 2],
        }[label]
        files.append((f"{number:06}.{label}", text.encode()))
    return files


def load(path: Path, **settings: object) -> ImageSplits:
    return load_data(DataConfig(path=str(path), **settings), seed=0)  # type: ignore[arg-type]


def reds(data: ImageSplits) -> dict[str, tuple[int, str]]:
    """Return {id: (red, class)} over all splits."""
    sets = data.by_name().values()
    return {
        id_: (images.image(n).getpixel((0, 0))[0], images.class_names[images.labels[n]])  # type: ignore[index]
        for images in sets
        for n, id_ in enumerate(images.ids)
    }


@pytest.mark.parametrize("suffix", ["label.txt", "class", "cls.txt", "meta.json"])
def test_labels_in_files_of_other_suffixes(tmp_path: Path, suffix: str) -> None:
    def content(kind: str) -> bytes:
        return (json.dumps({"label": kind}) if suffix.endswith("json") else kind).encode()

    files = []
    for number in range(8):
        files.append((f"{number:03}.png", png(number)))
        files.append((f"{number:03}.{suffix}", content(("cat", "dog")[number % 2])))
    data = load(pack(tmp_path / "a.tar", files))
    assert data.class_names == ("cat", "dog")
    assert {red % 2 == 0 for red, kind in reds(data).values() if kind == "cat"} == {True}


@pytest.mark.parametrize("label", ["cls", "json", "txt"])
@pytest.mark.parametrize(
    "form", ["{split}-{n:06}.tar", "{split}/{n}.tar", "imagenet-{split}-{n:04}.tar"]
)
def test_shards_by_split(tmp_path: Path, label: str, form: str) -> None:
    start = 0
    for split, shards in (("train", 2), ("val", 1), ("test", 1)):
        for n in range(shards):
            pack(tmp_path / form.format(split=split, n=n), samples(start, 4, label))
            start += 4
    data = load(tmp_path)
    assert [len(images) for images in data.by_name().values()] == [8, 4, 4]
    names = ("0", "1") if label == "cls" else ("cat", "dog")
    assert data.class_names == names
    assert reds(pickle.loads(pickle.dumps(data))) == {
        f"{form.format(split=split, n=n)}/{number:06}.png": (number, names[number % 2])
        for split, n, first in (("train", 0, 0), ("train", 1, 4), ("val", 0, 8), ("test", 0, 12))
        for number in range(first, first + 4)
    }
    count = count_listed(RunConfig(data=DataConfig(path=str(tmp_path))))
    assert (count.train, count.validation, count.test) == (8, 4, 4)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("classes.json", b'["tabby cat", "dog"]'),
        ("classes.json", b'{"1": "dog", "0": "tabby cat"}'),
        ("classnames.txt", b"tabby cat\ndog\n"),
    ],
)
def test_one_shard_with_the_names_of_its_numbers(tmp_path: Path, name: str, content: bytes) -> None:
    path = pack(tmp_path / "000000.tar", samples(0, 8))
    (tmp_path / name).write_bytes(content)
    for place in (path, tmp_path):
        data = load(place)
        assert data.class_names == ("tabby cat", "dog")
        assert f"Read the names of 2 classes in {name}." in data.notes


def labelled(labels: str, suffix: str = "cls", start: int = 0) -> list[tuple[str, bytes]]:
    """Return one sample for each word in `labels`, named by its place."""
    files = []
    for number, label in enumerate(labels.split(), start):
        text = label if suffix != "json" else json.dumps({"label": int(label)})
        files += [(f"{number}.png", png(number)), (f"{number}.{suffix}", text.encode())]
    return files


@pytest.mark.parametrize("suffix", ["cls", "json", "label", "label.txt"])
def test_each_list_of_classes_names_the_numbers_beside_it(tmp_path: Path, suffix: str) -> None:
    pack(tmp_path / "train/0.tar", labelled("0 1 0 1", suffix))
    pack(tmp_path / "train/1.tar", labelled("1 0", suffix, 4))
    pack(tmp_path / "test/0.tar", labelled("1 0 2", suffix, 6))
    (tmp_path / "train/classes.txt").write_text("cat\ndog\n")
    (tmp_path / "test/classes.txt").write_text("dog\ncat\nbird\n")
    with pytest.raises(DataError, match=r"bird"):
        load(tmp_path)
    pack(tmp_path / "test/0.tar", labelled("1 0 1", suffix, 6))
    data = load(tmp_path)
    assert [kind for _, (_, kind) in sorted(reds(data).items(), key=lambda entry: entry[1][0])] == (
        ["cat", "dog", "cat", "dog", "dog", "cat", "cat", "dog", "cat"]
    )


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        ("0 1", "cat dog", "train/0.tar has '0', '1'; test/0.tar has 'cat', 'dog'"),
        ("cat dog", "0 1", "test/0.tar has '0', '1'; train/0.tar has 'cat', 'dog'"),
    ],
)
def test_numbers_in_one_split_and_names_in_another_are_refused(
    tmp_path: Path, train: str, test: str, message: str
) -> None:
    pack(tmp_path / "train/0.tar", labelled(train))
    pack(tmp_path / "test/0.tar", labelled(test, start=2))
    with pytest.raises(DataError, match=message):
        load(tmp_path)


def test_numbers_outside_the_list_are_refused_by_name(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.tar", labelled("0 1 2"))
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    with pytest.raises(DataError, match=r"a\.tar/2: the label in column 'cls' is 2, allowed"):
        load(path)


def test_text_that_a_list_does_not_contain_keeps_its_own_names(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.tar", labelled("fox owl fox owl"))
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    data = load(path)
    assert data.class_names == ("fox", "owl")
    assert not any("Read the names" in note for note in data.notes)


def test_a_key_of_json_groups_and_another_one_is_the_label(tmp_path: Path) -> None:
    files = [
        file
        for n in range(8)
        for file in (
            (f"a/{n}.jpg", png(n)),
            (
                f"a/{n}.json",
                json.dumps({"breed": "xy"[n % 2], "kind": "c", "clip": n // 4}).encode(),
            ),
        )
    ]
    path = pack(tmp_path / "a.tar", files)
    data = load(path, group_by="clip")
    assert data.class_names == ("x", "y")
    assert "8 images are in 2 groups (column 'clip')." in data.notes
    with pytest.raises(DataError, match=r"no column 'nope' \(data\.label_column\); .*breed, kind"):
        load(path, label_column="nope")


def test_what_our_webdataset_scan_remembers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GENDATAAGENT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(scan, "CACHE_FROM_IMAGES", 2)
    path = pack(tmp_path / "a.tar", samples(0, 8))
    first = load(path)
    assert load(path).fingerprint == first.fingerprint
    pack(path, samples(20, 8))
    assert load(path).fingerprint != first.fingerprint


def test_large_images_are_skipped_over(tmp_path: Path) -> None:
    large = io.BytesIO()
    Image.effect_noise((400, 400), 90).convert("RGB").save(large, "PNG")
    files = [(name, large.getvalue() + data if name.endswith("png") else data)
             for name, data in samples(0, 6)]  # fmt: skip
    assert len(large.getvalue()) > 1 << 17
    assert len(load(pack(tmp_path / "a.tar", files), near_duplicates="off").to_rows()) == 6


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([*samples(0, 4), ("000000.png", png(3))], r"a\.tar holds 000000\.png twice"),
        ([*samples(0, 4), ("000000.jpg", png(3))], r"several images: \.png, \.jpg\. Set data"),
        ([*samples(0, 4), ("000009.png", png(3))], r"1 row has no label .*: a\.tar/000009\.png"),
        ([*samples(0, 4), ("9.cls", b"x" * (2 << 20))], r"cannot read .*9\.cls has 2,097,152 b"),
        ([*samples(0, 4), ("9.json", b"{")], r"cannot read .*a\.tar: "),
        ([*samples(0, 4), ("9.cls", b"\xff")], r"cannot read .*a\.tar: "),
    ],
)  # fmt: skip
def test_shards_that_are_refused(
    tmp_path: Path, files: list[tuple[str, bytes]], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        load(pack(tmp_path / "a.tar", files))


def test_two_images_a_sample_are_chosen_by_a_setting(tmp_path: Path) -> None:
    files = [*samples(0, 4), *((f"{n:06}.jpg", png(n + 100)) for n in range(4))]
    path = pack(tmp_path / "a.tar", files)
    assert sorted(red for red, _ in reds(load(path, image_column="jpg")).values()) == [
        100, 101, 102, 103
    ]  # fmt: skip


def test_a_shard_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.tar", samples(0, 8))
    whole = path.read_bytes()
    for cut in (512 * 9, 512 * 10 + 100, 512 * 24):
        path.write_bytes(whole[:cut])
        for place in (path, tmp_path):
            with pytest.raises(DataError, match=r"cannot read .*a\.tar: .*Download it again"):
                load(place)


def test_a_compressed_shard_is_refused_by_name(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.tar.gz", samples(0, 8), "w:gz")
    with pytest.raises(DataError, match=r"a\.tar\.gz is a compressed WebDataset; .*data\.layout"):
        load(path)


def test_a_folder_without_shards_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.layout is webdataset, but .* holds no \.tar"):
        load(tmp_path, layout="webdataset")


def test_the_library_s_own_shards(tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    with webdataset.ShardWriter(str(tmp_path / "train-%06d.tar"), maxcount=4) as writer:
        for number in range(8):
            writer.write({"__key__": f"{number:04}", "png": png(number), "cls": number % 2})
    assert len(load(tmp_path).to_rows()) == 8


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    max_examples=settings().max_examples // 3,
)
@given(data=st.data())
def test_any_shard_is_images_or_a_sentence(tmp_path: Path, data: st.DataObject) -> None:
    names = st.sampled_from(["a.png", "a.cls", "a.json", "b.png", "b.cls", "../c.png", "c", ".cls"])
    contents = st.binary(max_size=20) | st.sampled_from([png(3), b"1", b'{"label": "x"}', b"[1]"])
    files = data.draw(st.lists(st.tuples(names, contents), max_size=6))
    path = pack(tmp_path / "a.tar", [*samples(0, 2), *files])
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content))
    with contextlib.suppress(GenDataAgentError):
        load(path)
