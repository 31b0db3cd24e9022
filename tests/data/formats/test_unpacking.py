"""Archives as the standard tools write them, and those made to do harm."""

from __future__ import annotations

import contextlib
import io
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from gendataagent.config import DataConfig, RunConfig
from gendataagent.core.errors import DataError, GenDataAgentError, StorageError
from gendataagent.data import ImageSplits, load_data
from gendataagent.data.formats import unpacking
from gendataagent.runs.planning.counts import count_listed

Writer = Callable[[Path, Mapping[str, bytes]], Path]
pytestmark = pytest.mark.timeout(60)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GENDATAAGENT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def png(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (number, 90, 0)).save(buffer, "PNG")
    return buffer.getvalue()


FOLDERS = {
    f"{kind}/{n}.png": png(n + 50 * (kind == "dog")) for kind in ("cat", "dog") for n in range(4)
}
TABLE = {
    **{f"images/{n}.png": png(n) for n in range(8)},
    "labels.csv": "".join(
        ["image,label\n", *(f"{n}.png,{'ab'[n % 2]}\n" for n in range(8))]
    ).encode(),
}


def write_zip(path: Path, content: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return path


def write_tar(path: Path, content: Mapping[str, bytes]) -> Path:
    kind = {".gz": "w:gz", ".tgz": "w:gz", ".bz2": "w:bz2", ".xz": "w:xz"}.get(path.suffix, "w")
    with tarfile.open(path, kind) as archive:  # type: ignore[call-overload]
        for name, data in content.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return path


FORMS = {
    "a.zip": write_zip, "A.ZIP": write_zip, "a.tar": write_tar, "a.tar.gz": write_tar,
    "a.tgz": write_tar, "a.tar.bz2": write_tar, "a.tar.xz": write_tar,
}  # fmt: skip


def load(path: Path, **settings: object) -> ImageSplits:
    return load_data(DataConfig(path=str(path), **settings), seed=0)  # type: ignore[arg-type]


def files_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("content", [FOLDERS, TABLE], ids=["folders", "table"])
@pytest.mark.parametrize("top", ["", "photos/", "./a/b/"])
def test_an_archive_is_read_as_its_folder(
    tmp_path: Path, name: str, content: dict[str, bytes], top: str
) -> None:
    inside = {"__MACOSX/._x": b"", **{top + key: data for key, data in content.items()}}
    path = FORMS[name](tmp_path / name, inside)
    data = load(path)
    for key, value in content.items():
        (tmp_path / "plain" / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "plain" / key).write_bytes(value)
    assert data.fingerprint == load(tmp_path / "plain").fingerprint
    assert count_listed(RunConfig(data=DataConfig(path=str(path)))).train == len(data.train)
    assert data.notes[0].startswith(f"Read {path} (SHA-256 ")


def test_it_is_unpacked_once_for_a_content_wherever_it_is(tmp_path: Path, cache: Path) -> None:
    path = write_zip(tmp_path / "a.zip", FOLDERS)
    load(path)
    (folder,) = [p for p in (cache / "unpacked").iterdir() if p.is_dir()]
    before = (folder / "cat/0.png").stat().st_mtime_ns
    load(path.rename(tmp_path / "b.zip"))
    assert (folder / "cat/0.png").stat().st_mtime_ns == before
    (folder / "cat/0.png").unlink()
    assert len(load(tmp_path / "b.zip").to_rows()) == 8
    assert (folder / "cat/0.png").exists()
    write_zip(tmp_path / "b.zip", {**FOLDERS, "cat/9.png": png(99)})
    assert len(load(tmp_path / "b.zip").to_rows()) == 9


def test_names_as_old_windows_tools_write_them(tmp_path: Path) -> None:
    names = {key.replace("/", "\\"): data for key, data in FOLDERS.items()}
    assert load(write_zip(tmp_path / "a.zip", names)).class_names == ("cat", "dog")


@pytest.mark.parametrize("write", [write_zip, write_tar])
@pytest.mark.parametrize(
    "name",
    ["../x.png", "/tmp/x.png", "cat/../../x.png", "..\\x.png", "C:\\x.png", "C:x.png",
     "\\\\server\\share\\x.png", "cat/..", "~/../x.png"],
)  # fmt: skip
def test_a_name_outside_is_refused_and_nothing_is_written(
    tmp_path: Path, cache: Path, write: Writer, name: str
) -> None:
    path = write(tmp_path / ("a.zip" if write is write_zip else "a.tar"), {**FOLDERS, name: b"x"})
    before = files_below(tmp_path)
    with pytest.raises(DataError, match=r"a\.(zip|tar) names .*, a path outside of it"):
        load(path)
    new = files_below(tmp_path) - before
    assert all(name.endswith((".lock", ".sha256")) for name in new)
    assert not [p for p in (cache / "unpacked").iterdir() if p.is_dir()]


def test_links_and_devices_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "private").mkdir()
    (tmp_path / "private/x.png").write_bytes(png(200))
    path = write_tar(tmp_path / "a.tar", FOLDERS)
    with tarfile.open(path, "a") as archive:
        for name, kind, target in (
            ("cat/link.png", tarfile.SYMTYPE, str(tmp_path / "private/x.png")),
            ("cat/hard.png", tarfile.LNKTYPE, "../private/x.png"),
            ("bird", tarfile.SYMTYPE, str(tmp_path / "private")),
            ("cat/pipe.png", tarfile.FIFOTYPE, ""),
            ("cat/zero.png", tarfile.CHRTYPE, ""),
        ):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, target
            archive.addfile(entry)
        entry = tarfile.TarInfo("bird/new.png")  # through the link, if it had been made
        entry.size = len(png(3))
        archive.addfile(entry, io.BytesIO(png(3)))
    data = load(path)
    assert len(data.to_rows()) == 9
    for again in (data, load(path)):
        assert f"Left out 5 links and devices of {path}." in again.notes
    assert not (tmp_path / "private/new.png").exists()
    info = zipfile.ZipInfo("cat/link.png")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    path = write_zip(tmp_path / "a.zip", FOLDERS)
    with zipfile.ZipFile(path, "a") as packed:
        packed.writestr(info, str(tmp_path / "private/x.png"))
    assert f"Left out 1 link or device of {path}." in load(path).notes


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz", "a.tar"])
def test_an_archive_that_grows_without_measure_is_refused(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(unpacking, "SMALL_BYTES", 1 << 20)
    monkeypatch.setattr(unpacking, "MAX_RATIO", 0)
    path = FORMS[name](tmp_path / name, {**FOLDERS, "cat/zeros.bmp": bytes(2 << 20)})
    with pytest.raises(DataError, match=r"unpacks to more than .* It was|unpacks to more than"):
        load(path)
    assert not [p for p in (cache / "unpacked").iterdir() if p.is_dir()]
    monkeypatch.setattr(unpacking, "MAX_FILES", 3)
    with pytest.raises(DataError, match="unpacks to more than"):
        load(FORMS[name](tmp_path / name, FOLDERS))


def test_two_archives_in_one_file_are_refused(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", FOLDERS)
    path.write_bytes(path.read_bytes() * 2)
    with pytest.raises(DataError, match="something follows its end mark"):
        load(path)


def test_a_zip_that_lies_about_its_sizes_is_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {**FOLDERS, "cat/zeros.bmp": bytes(1 << 20)})
    content = path.read_bytes()
    lie = content.replace((1 << 20).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    path.write_bytes(lie)
    with pytest.raises(DataError, match=r"cannot read .*a\.zip: .*download it again"):
        load(path)


def test_a_header_that_fills_the_memory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    entry = tarfile.TarInfo("././@PaxHeader")
    entry.type, entry.size = tarfile.XHDTYPE, 20 << 20
    with tarfile.open(path, "w:gz", format=tarfile.USTAR_FORMAT) as archive:
        archive.addfile(entry, io.BytesIO(bytes(20 << 20)))
    with pytest.raises(DataError, match="unpacks to a header of 20,97"):
        load(path)


@pytest.mark.parametrize("write", [write_zip, write_tar])
def test_a_name_twice_is_refused(tmp_path: Path, write: Writer) -> None:
    path = write(tmp_path / ("a.zip" if write is write_zip else "a.tar"), {**FOLDERS, "cat": b"x"})
    with pytest.raises(DataError, match="holds cat twice, as file or as folder"):
        load(path)


def test_an_encrypted_zip_is_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", FOLDERS)
    content = bytearray(path.read_bytes())
    for mark, place in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        content[content.index(mark) + place] |= 1
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match="is encrypted"):
        load(path)


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "a.tar.xz", "a.tar.bz2"])
def test_a_damaged_archive_is_refused(tmp_path: Path, cache: Path, name: str) -> None:
    path = FORMS[name](tmp_path / name, FOLDERS)
    whole = path.read_bytes()
    cuts = [whole[:length] for length in range(0, len(whole) - 1, max(1, len(whole) // 37))]
    for content in (b"x" * 600, *cuts[: None if name != "a.tar" else -25]):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"cannot read .*download it again"):
            load(path)
    path.write_bytes(whole)
    assert len(load(path).to_rows()) == 8


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, cache: Path) -> None:
    cache.mkdir(mode=0o500)
    with pytest.raises(StorageError, match="unpacked"):
        load(write_zip(tmp_path / "a.zip", FOLDERS))


def test_a_long_name_is_refused(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", {**FOLDERS, f"cat/{'x' * 300}.png": png(1)})
    with pytest.raises(DataError, match=r"this system takes no file named cat/xxx"):
        load(path)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    max_examples=settings().max_examples // 4,
)
@given(data=st.data(), name=st.sampled_from(["a.zip", "a.tar", "a.tar.gz"]))
def test_any_archive_is_images_or_a_sentence(
    tmp_path: Path, data: st.DataObject, name: str
) -> None:
    names = st.text(max_size=10) | st.sampled_from(["cat/a.png", "dog/a.png", "a.csv", "../x"])
    entries = data.draw(st.dictionaries(names, st.binary(max_size=30), max_size=4))
    path = tmp_path / name
    try:
        FORMS[name](path, {**FOLDERS, **entries})
    except (ValueError, IndexError):  # a name that cannot be packed
        return
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content))
    with contextlib.suppress(GenDataAgentError):
        load(path)
    outside = {p.name for p in tmp_path.iterdir()}
    assert outside <= {"cache", *FORMS}
