"""A folder is left alone as soon as anything in it leads out."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

from gendataagent.core.errors import RunFolderError
from gendataagent.core.inside import refuse_ways_out

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="links need a permission there")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "run" / "a" / "b").mkdir(parents=True)
    (tmp_path / "run" / "a" / "file").write_bytes(b"1")
    (tmp_path / "run-2").mkdir()
    return tmp_path / "run"


@pytest.mark.parametrize(
    "target",
    ["../../outside", "/etc/passwd", "../../..", "../../run-2", "/nowhere/at/all", "../.."],
)
def test_links_that_lead_out_are_named(target: str, folder: Path) -> None:
    (folder / "a" / "link").symlink_to(target)
    with pytest.raises(RunFolderError, match=r"run/a/link is a link that leads out of .*run, to /"):
        refuse_ways_out(folder)


@pytest.mark.parametrize("target", ["file", "b", "..", ".", "link", "../a/gone"])
def test_links_inside_are_left_alone(target: str, folder: Path) -> None:
    (folder / "a" / "link").symlink_to(target)
    refuse_ways_out(folder)
    (folder.parent / "other").symlink_to(folder)
    refuse_ways_out(folder.parent / "other")


def test_a_link_by_way_of_a_link_inside_is_followed_to_its_end(folder: Path) -> None:
    (folder / "a" / "first").symlink_to("second")
    (folder / "a" / "second").symlink_to(folder.parent / "run-2")
    with pytest.raises(RunFolderError, match="leads out"):
        refuse_ways_out(folder)


def test_pipes_and_sockets_are_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(folder / "a" / "pipe")
    with pytest.raises(RunFolderError, match=r"run/a/pipe is a pipe"):
        refuse_ways_out(folder)
    (folder / "a" / "pipe").unlink()
    monkeypatch.chdir(folder / "a")  # the path of a socket must be short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        with pytest.raises(RunFolderError, match=r"run/a/socket is a pipe, a device or a socket"):
            refuse_ways_out(folder)


def test_what_is_missing_is_for_others_to_say(tmp_path: Path) -> None:
    refuse_ways_out(tmp_path / "nowhere")
