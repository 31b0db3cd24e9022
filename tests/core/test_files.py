"""Files are written atomically, also when the disk is full."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gendataagent.core import files
from gendataagent.core.errors import ModelError, RunFolderError, StorageError
from gendataagent.core.journal import append_row, read_journal

resource = pytest.importorskip("resource", reason="limits on file size are a Unix thing")


@contextlib.contextmanager
def files_end_at(size: int) -> Iterator[None]:
    """Let the system refuse to write any file beyond `size` bytes, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_writes_a_file_and_the_folders_above_it(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "c.bin"
    files.write_bytes(path, b"content")
    assert path.read_bytes() == b"content"
    assert [p.name for p in path.parent.iterdir()] == ["c.bin"]


def test_a_full_disk_leaves_the_old_content_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    files.write_bytes(path, b"old")
    with files_end_at(1000), pytest.raises(StorageError, match=r"cannot write .*weights.bin"):
        files.write_bytes(path, b"x" * 100_000)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["weights.bin"]


def test_an_error_inside_the_block_leaves_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    files.write_bytes(path, b"old")
    with pytest.raises(ZeroDivisionError), files.atomic_writer(path) as stream:
        stream.write(bytes(1 // len(b"")))
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_kill_while_writing_leaves_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    files.write_bytes(path, b"old")
    code = (
        "import os, signal, sys, pathlib; from gendataagent.core.files import atomic_writer\n"
        "with atomic_writer(pathlib.Path(sys.argv[1])) as stream:\n"
        "    stream.write(b'x' * 100_000); stream.flush()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)]).returncode == -9
    assert path.read_bytes() == b"old"


def test_a_folder_that_is_a_file_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"Not a directory|File exists"):
        files.write_bytes(tmp_path / "file" / "below", b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_what_is_no_file_is_not_replaced_by_one(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")  # as /dev/stdout is one
    for name in ("pipe", "link"):
        with pytest.raises(StorageError, match="not a regular file, so it is not replaced"):
            files.write_bytes(tmp_path / name, b"x")
    assert (tmp_path / "pipe").is_fifo()
    assert (tmp_path / "link").is_symlink()


def test_no_space_left_says_so_and_what_to_do() -> None:
    pattern = r"No space left.*free some space.*run the command again"
    with pytest.raises(StorageError, match=pattern):
        append_row(Path("/dev/full"), {"a": 1})


def test_many_files_are_written_or_the_one_that_was_not_is_named(tmp_path: Path) -> None:
    contents = {tmp_path / str(i % 3) / f"{i}.bin": bytes([i]) * 999 for i in range(40)}
    files.write_many(contents)
    assert {path: path.read_bytes() for path in tmp_path.glob("*/*")} == contents
    files.write_many({})
    (tmp_path / "0" / "full").mkdir()
    with pytest.raises(StorageError, match=r"cannot write .*full: Is a directory"):
        files.write_many({tmp_path / "0" / "full": b"x", tmp_path / "1" / "new": b"y"})


def test_a_row_is_appended_after_those_before(tmp_path: Path) -> None:
    path = tmp_path / "below" / "lines"
    append_row(path, {"one": 1})
    append_row(path, {"two": "zwöi"})
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [set(line) for line in lines] == [{"one", "check"}, {"two", "check"}]
    assert read_journal(path) == [{"one": 1}, {"two": "zwöi"}]


def test_a_torn_line_is_not_continued(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b'{"torn":')
    append_row(path, {"next": 2})
    assert path.read_bytes().startswith(b'{"torn":\n{"next": 2')
    assert read_journal(path) == [{"next": 2}]


def test_a_journal_is_read_without_its_torn_lines(tmp_path: Path) -> None:
    path = tmp_path / "below" / "lines"
    assert read_journal(path) == []
    for _ in range(2):
        append_row(path, {"whole": "zwöi"})
        with open(path, "ab") as stream:
            stream.write('{"torn": "zwö'.encode()[:-1])  # in the middle of a letter
    with open(path, "ab") as stream:
        stream.write(b"\n[1, 2]\n" + b"[" * 100_000 + b'\n{"without": "a checksum"}\n')
    assert read_journal(path) == [{"whole": "zwöi"}] * 2
    with pytest.raises(RunFolderError, match=r"cannot read .*below"):
        read_journal(path.parent)


@pytest.mark.parametrize("bit", range(8))
def test_a_journal_is_read_without_lines_in_which_one_bit_has_changed(
    bit: int, tmp_path: Path
) -> None:
    path = tmp_path / "lines"
    row: dict[str, Any] = {"seed": 123, "caption": "zwöi, {deep}", "list": [1.5, None]}
    append_row(path, row)
    content = path.read_bytes()
    for place in range(len(content) - 1):
        changed = bytearray(content)
        changed[place] ^= 1 << bit
        path.write_bytes(changed)
        assert read_journal(path) == []


def test_a_line_that_did_not_fit_damages_no_other(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    append_row(path, {"first": 1})
    with files_end_at(60), pytest.raises(StorageError):
        append_row(path, {"long": "x" * 100})
    append_row(path, {"last": 3})
    assert read_journal(path) == [{"first": 1}, {"last": 3}]


def test_what_killed_writers_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / ".a.png.123.tmp").touch()
    (tmp_path / ".classifier.77.tmp" / "inside").mkdir(parents=True)
    assert not files.holds_nothing(tmp_path)
    for own in (".hidden", "a.tmp", ".notes.tmp", ".lock"):
        (tmp_path / own).touch()
    files.remove_leftovers(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        ".hidden", ".lock", ".notes.tmp", "a.tmp", "deep",
    ]  # fmt: skip
    assert list((tmp_path / "deep").iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="asking whether a process runs would interrupt it")
def test_in_a_shared_folder_only_what_no_process_is_writing_is_removed(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    lost, under_way = (
        [tmp_path / f".{name}.{process}.tmp" for name in ("a.json", "folder")]
        for process in (ended.pid, os.getpid())
    )
    for file, folder in (lost, under_way):
        file.write_bytes(b"")
        folder.mkdir()
    files.remove_leftovers(tmp_path, shared=True)
    assert sorted(tmp_path.iterdir()) == sorted(under_way)


def test_a_folder_with_a_lock_and_leftovers_alone_holds_nothing(tmp_path: Path) -> None:
    assert files.holds_nothing(tmp_path)
    (tmp_path / ".lock").touch()
    (tmp_path / ".config.toml.4711.tmp").touch()
    (tmp_path / "sha256.jsonl").touch()
    assert files.holds_nothing(tmp_path)
    (tmp_path / "config.toml").touch()
    assert not files.holds_nothing(tmp_path)


def test_json_survives_writing_and_reading(tmp_path: Path) -> None:
    value: dict[str, Any] = {"name": "Kätzchen\u2028", "list": [1, 2.5, None, True]}
    files.write_json(tmp_path / "a.json", value)
    assert files.read_json(tmp_path / "a.json") == value
    rows = [value, {"text": "two\nlines\r\n"}]
    files.write_jsonl(tmp_path / "a.jsonl", rows)
    assert files.read_jsonl(tmp_path / "a.jsonl") == rows
    files.write_jsonl(tmp_path / "a.jsonl", [])
    assert files.read_jsonl(tmp_path / "a.jsonl") == []


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_are_not_json_are_refused_and_the_file_is_unchanged(
    number: float, tmp_path: Path
) -> None:
    files.write_json(tmp_path / "a", {"loss": 1.0})
    row: dict[str, float] = {"loss": number}
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(tmp_path / "a", row)
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_jsonl(tmp_path / "a", [{"fine": 1.0}, row])
    assert json.loads((tmp_path / "a").read_text()) == {"loss": 1.0}


def test_files_that_are_not_json_are_named_with_the_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\n{"a":')
    with pytest.raises(RunFolderError, match=r"rows\.jsonl, line 2 is not JSON"):
        files.read_jsonl(path)
    with pytest.raises(RunFolderError, match=r"cannot read .*rows.jsonl"):
        files.read_json(path)
    with pytest.raises(RunFolderError, match=r"cannot read .*nowhere"):
        files.read_jsonl(tmp_path / "nowhere")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(RunFolderError, match=r"cannot read .*rows.jsonl"):
        files.read_jsonl(path)


def test_the_hash_of_a_file_is_that_of_its_content(tmp_path: Path) -> None:
    content = os.urandom((1 << 20) + 17)
    (tmp_path / "file").write_bytes(content)
    assert files.file_sha256(tmp_path / "file") == hashlib.sha256(content).hexdigest()


def test_a_folder_is_replaced_only_when_the_block_ends_well(tmp_path: Path) -> None:
    target = tmp_path / "parent" / "folder"
    with files.atomic_folder(target) as aside:
        (aside / "deeper").mkdir()
        (aside / "deeper" / "a").write_text("1")
        assert not target.exists()
    assert (target / "deeper" / "a").read_text() == "1"
    with contextlib.suppress(KeyError), files.atomic_folder(target) as aside:
        (aside / "b").write_text("2")
        raise KeyError
    assert [path.name for path in target.iterdir()] == ["deeper"]
    with files.atomic_folder(target) as aside:
        (aside / "c").write_text("3")
    assert [path.name for path in target.iterdir()] == ["c"]
    assert list(target.parent.iterdir()) == [target]


def test_two_writers_of_one_file_do_not_mix_though_their_processes_have_one_number(
    tmp_path: Path,
) -> None:
    target = tmp_path / "file"
    with files.atomic_writer(target) as first:
        first.write(b"first")
        with files.atomic_writer(target) as second:
            second.write(b"2")
        assert target.read_bytes() == b"2"
    assert target.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_that_another_process_is_writing_is_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "a[1]*"
    running = tmp_path / f".{target.name}.0a1b2c.{os.getppid()}.tmp"
    killed = [tmp_path / f".{target.name}.{end}.tmp" for end in ("4194305", "0a1b2c.4194305")]
    for folder in (running, *killed):
        folder.mkdir()
    with files.atomic_folder(target):
        pass
    assert {*tmp_path.iterdir()} == {target, running}


def test_a_cached_file_that_has_changed_is_none(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    assert files.read_cached(path) is None
    for content in (b"", b"one\ntwo\x00", b"x" * 100_000):
        files.write_cached(path, content)
        assert files.read_cached(path) == content
        stored = path.read_bytes()
        for place in {0, 40, 64, len(stored) - 1}:
            path.write_bytes(stored[:place] + bytes([stored[place] ^ 1]) + stored[place + 1 :])
            assert files.read_cached(path) is None
        path.write_bytes(stored[:-1] if content else stored[:-2])
        assert files.read_cached(path) is None
    path.unlink()
    path.mkdir()
    assert files.read_cached(path) is None


@pytest.mark.parametrize("error", [StorageError("why"), ModelError("why"), RunFolderError("why")])
def test_an_error_of_ours_inside_the_block_keeps_its_message(
    error: Exception, tmp_path: Path
) -> None:
    """Some of them are OSErrors, but not of the writing."""
    with pytest.raises(type(error), match=r"^why$"), files.atomic_folder(tmp_path / "a"):
        raise error
    with pytest.raises(type(error), match=r"^why$"), files.atomic_writer(tmp_path / "b"):
        raise error
    assert not list(tmp_path.iterdir())


def test_a_line_of_one_round_is_none_of_another_but_the_run_may_move(tmp_path: Path) -> None:
    first, second = (tmp_path / "run" / "rounds" / name / "probes.jsonl" for name in ("000", "001"))
    append_row(first, {"one": 1})
    second.parent.mkdir()
    shutil.copyfile(first, second)
    shutil.copyfile(first, first.with_name("rendered.jsonl"))
    assert read_journal(first) == [{"one": 1}]
    assert read_journal(second) == read_journal(first.with_name("rendered.jsonl")) == []
    second.with_name("selected.parquet").write_bytes(b"selection")
    second.unlink()
    append_row(second, {"two": 2})
    assert read_journal(second) == [{"two": 2}]
    second.with_name("selected.parquet").write_bytes(b"of another run")
    assert read_journal(second) == []
    (tmp_path / "run").rename(tmp_path / "moved")
    assert read_journal(tmp_path / "moved/rounds/000/probes.jsonl") == [{"one": 1}]
