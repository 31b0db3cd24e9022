"""What is given as data.path: anything else than a folder or a table is refused in a sentence."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from gendataagent.config import DataConfig
from gendataagent.core.errors import DataError, StorageError
from gendataagent.data import check_path, load_data


def refuse(path: str | Path, reason: str) -> None:
    for check in (check_path, load_data):
        with pytest.raises(DataError, match=reason):
            check(DataConfig(path=str(path)))


@pytest.mark.parametrize(
    "address",
    ["https://x.org/photos.zip", "HTTP://x.org/a", "s3://bucket/key", "file:///data", "hf://a/b"],
)
def test_an_address_is_not_downloaded(address: str) -> None:
    refuse(address, rf"data\.path {address} is an address, .* download it and give")


@pytest.mark.parametrize("name", ["a.7z", "photos.rar", "PHOTOS.TAR.ZST", "labels.csv.gz"])
def test_other_archives_have_to_be_unpacked(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"PK")
    with pytest.raises(DataError, match=f"{name} is not unpacked here; unpack it and give"):
        load_data(str(tmp_path / name))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("name", ["pipe", "train.parquet", "photos.zip"])
def test_a_pipe_is_not_opened(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    refuse(tmp_path / name, f"{name} cannot be read: not a regular file")


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="this system has no /dev/zero")
def test_a_device_is_not_opened() -> None:
    refuse("/dev/zero", "/dev/zero cannot be read: not a regular file")


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="this system has no such sockets")
def test_a_socket_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the path of a socket has to be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s.parquet")
        refuse("s.parquet", r"s\.parquet cannot be read")


def test_names_that_no_file_can_have_are_refused(tmp_path: Path) -> None:
    refuse("x" * 5_000, "cannot be read")
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    refuse(loop, "loop cannot be read")


def test_a_home_folder_that_is_not_there_is_named() -> None:
    from gendataagent.core.errors import StorageError

    with pytest.raises(StorageError, match=r"~nobody-of-this-name/x: there is no such home folder"):
        check_path(DataConfig(path="~nobody-of-this-name/x"))


def test_a_null_character_is_named() -> None:
    with pytest.raises(StorageError, match="null character"):
        load_data("photos\0/x")
