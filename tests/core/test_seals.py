"""Hashes of files: what was written, what has changed since."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gendataagent.core import files
from gendataagent.core.errors import RunFolderError
from gendataagent.core.journal import checked_line
from gendataagent.core.seals import Seals, damages, read_mark, write_mark


def test_a_file_is_whole_until_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "below" / "a.json"
    seals = Seals(tmp_path)
    assert str(seals.damage(path)) == f"{path} is missing"
    seals.write(path, b'{"seed": 1}')
    assert seals.damage(path) is None
    path.write_bytes(b'{"seed": 7}')
    assert str(seals.damage(path)) == f"{path} has changed since it was written"
    path.unlink()
    assert str(seals.damage(path)) == f"{path} is missing"


def test_a_file_that_was_never_sealed_is_not_trusted(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("from elsewhere")
    assert Seals(tmp_path).damage(tmp_path / "a")


def test_a_pipe_in_place_of_a_file_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert str(Seals(tmp_path).damage(tmp_path / "pipe")).endswith("is missing")


def test_a_crash_between_hash_and_file_damages_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, seals = tmp_path / "a", Seals(tmp_path)
    seals.write(path, b"first")

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "write_bytes", crash)
    with pytest.raises(KeyboardInterrupt):
        seals.write(path, b"second")
    assert seals.damage(path) is None
    monkeypatch.undo()
    seals.write(path, b"second")
    assert seals.damage(path) is None
    assert len((tmp_path / files.SEALS_FILE).read_bytes().splitlines()) == 2


def test_seals_move_with_their_folder(tmp_path: Path) -> None:
    Seals(tmp_path / "here").write(tmp_path / "here" / "x" / "a", b"content")
    (tmp_path / "here").rename(tmp_path / "there")
    assert Seals(tmp_path / "there").damage(tmp_path / "there" / "x" / "a") is None


def test_a_mark_lists_the_hash_of_each_file(tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / name).write_text(name)
    mark = tmp_path / "DONE"
    write_mark(mark, tmp_path, [tmp_path / "b", tmp_path / "a"])
    assert list(read_mark(mark)) == ["a", "b"]
    assert list(damages(tmp_path, read_mark(mark))) == []
    (tmp_path / "a").unlink()
    (tmp_path / "b").write_text("B")
    assert [str(damage) for damage in damages(tmp_path, read_mark(mark))] == [
        f"{tmp_path / 'a'} is missing",
        f"{tmp_path / 'b'} has changed since it was written",
    ]


def test_a_mark_is_not_written_over_a_file_that_changed_on_the_way(tmp_path: Path) -> None:
    Seals(tmp_path).write(tmp_path / "a", b"content")
    (tmp_path / "a").write_bytes(b"Content")
    with pytest.raises(RunFolderError, match="check the disk"):
        write_mark(tmp_path / "DONE", tmp_path, [tmp_path / "a"])
    assert not (tmp_path / "DONE").exists()


def test_a_changed_mark_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    mark = tmp_path / "DONE"
    write_mark(mark, tmp_path, [tmp_path / "a"])
    whole = mark.read_bytes()
    for content in (b"", whole[:-20], whole.replace(b'"a"', b'"b"')):
        mark.write_bytes(content)
        with pytest.raises(RunFolderError, match="DONE has changed"):
            read_mark(mark)


def test_a_mark_that_names_files_elsewhere_is_refused(tmp_path: Path) -> None:
    for name in ("/etc/passwd", "../a"):
        line = checked_line({"files": {name: "0" * 64}})
        (tmp_path / "DONE").write_bytes(line + b"\n")
        with pytest.raises(RunFolderError, match="DONE has changed"):
            read_mark(tmp_path / "DONE")
