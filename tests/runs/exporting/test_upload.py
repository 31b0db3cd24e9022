"""--push-to-hub, with the real client of the Hub and a small server on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gendataagent.core.errors import ConfigError, StorageError
from gendataagent.runs.exporting.place import export_folder
from gendataagent.runs.exporting.upload import DATASET, MODEL, check_upload, upload
from tests.hub_server import Hub, serve_hub


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A Hub that this process is logged in to."""
    from huggingface_hub import constants

    with serve_hub(Hub()) as served:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", served.address)
        template = served.address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
        monkeypatch.setenv("HF_TOKEN", served.token)
        yield served


def an_export(path: Path, *names: str) -> Path:
    with export_folder(path, {"what": "test"}) as aside:
        for name in ("README.md", *names):
            (aside / name).parent.mkdir(parents=True, exist_ok=True)
            (aside / name).write_text(name)
    return path


@pytest.mark.parametrize("kind", [MODEL, DATASET])
def test_all_files_arrive_in_a_private_repository(kind: str, hub: Hub, tmp_path: Path) -> None:
    path = an_export(tmp_path / "out", "data/a b.txt", "ü.txt")
    check_upload("somebody/mine", kind)
    where = upload(path, "somebody/mine", kind)
    key = f"{kind}s/somebody/mine"
    assert where.endswith("somebody/mine")
    assert hub.private[key]
    files = dict(hub.repositories[key])
    del files[".gitattributes"]
    here = {p.relative_to(path).as_posix(): p.read_bytes() for p in path.rglob("*") if p.is_file()}
    assert files == here


def test_an_earlier_export_is_replaced_completely(hub: Hub, tmp_path: Path) -> None:
    upload(an_export(tmp_path / "one", "old.txt"), "somebody/mine", MODEL, private=False)
    assert not hub.private["models/somebody/mine"]
    check_upload("somebody/mine", MODEL)
    upload(an_export(tmp_path / "two", "new.txt"), "somebody/mine", MODEL)
    files = set(hub.repositories["models/somebody/mine"]) - {".gitattributes"}
    assert files == {"README.md", "new.txt", "export.json"}


def test_an_upload_that_was_cut_off_can_be_repeated(hub: Hub, tmp_path: Path) -> None:
    path = an_export(tmp_path / "out", "a.txt")
    hub.fail_commits_after = 1
    with pytest.raises(StorageError, match=r"cannot upload to somebody/mine: .*is in .*out"):
        upload(path, "somebody/mine", DATASET)
    hub.fail_commits_after = 1000
    check_upload("somebody/mine", DATASET)
    upload(path, "somebody/mine", DATASET)
    assert "a.txt" in hub.repositories["datasets/somebody/mine"]


def test_a_repository_of_something_else_is_refused(hub: Hub) -> None:
    hub.repositories["models/somebody/thesis"] = {"thesis.pdf": b"precious"}
    with pytest.raises(StorageError, match=r"no export of gendataagent \(thesis.pdf\)"):
        check_upload("somebody/thesis", MODEL)
    hub.repositories["models/somebody/thesis"]["export.json"] = b"{}"
    with pytest.raises(StorageError, match="no export of gendataagent"):
        check_upload("somebody/thesis", MODEL)
    hub.repositories["models/somebody/empty"] = {".gitattributes": b""}
    check_upload("somebody/empty", MODEL)


def test_what_is_missing_is_said_before_anything_is_written(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    for name in ("a/b/c", "bad name", "../x", "", "mine"):
        with pytest.raises(ConfigError, match="Give USER/NAME"):
            check_upload(name, MODEL)
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(ConfigError, match="hf auth login"):
        check_upload("somebody/mine", MODEL)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match="HF_HUB_OFFLINE is set"):
        check_upload("somebody/mine", MODEL)


def test_a_hub_that_cannot_be_reached(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(StorageError, match=r"cannot upload .*Nothing was exported"):
        check_upload("somebody/mine", MODEL)


@pytest.mark.integration
def test_both_commands_upload(exported_run: Path, tmp_path: Path) -> None:
    """As a user types it, in a new process."""
    with serve_hub(Hub()) as served:
        environment = {k: v for k, v in os.environ.items() if not k.endswith("_OFFLINE")}
        environment |= {
            "HF_ENDPOINT": served.address, "HF_TOKEN": served.token, "HF_HOME": str(tmp_path / "hf")
        }  # fmt: skip
        for command, to, options in (
            ("export", "torchscript", ("--public",)),
            ("export-data", "parquet", ("--only", "kept")),
        ):
            done = subprocess.run(
                [sys.executable, "-m", "gendataagent", command, str(exported_run), "--to", to,
                 "--out", str(tmp_path / to), "--push-to-hub", "somebody/mine", *options],
                env=environment, capture_output=True, text=True,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            assert f"uploaded: {served.address}" in done.stdout
        assert "model.pt" in served.repositories["models/somebody/mine"]
        assert not served.private["models/somebody/mine"]
        assert "README.md" in served.repositories["datasets/somebody/mine"]
        assert served.private["datasets/somebody/mine"]
