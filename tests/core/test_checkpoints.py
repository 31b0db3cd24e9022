from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from gendataagent.core import checkpoints as checkpoint_module
from gendataagent.core.checkpoints import (
    load_latest,
    load_weights,
    save_checkpoint,
    save_weights,
    weights_path,
)
from gendataagent.core.errors import RunFolderError, StorageError


def tensors(value: float) -> dict[str, torch.Tensor]:
    shared = torch.full((3, 2), value)
    return {"a": shared, "tied": shared, "turned": torch.arange(6.0).reshape(2, 3).T + value}


def save(folder: Path, *epochs: int) -> None:
    for epoch in epochs:
        save_checkpoint(folder, epoch, tensors(epoch), {"epochs_done": epoch})


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    save(tmp_path, 10)
    loaded = load_latest(tmp_path)
    assert loaded is not None
    assert (loaded.epoch, loaded.state, loaded.damaged) == (10, {"epochs_done": 10}, ())
    for name, expected in tensors(10).items():
        assert torch.equal(loaded.tensors[name], expected)


def test_the_newest_two_are_kept(tmp_path: Path) -> None:
    save(tmp_path, 1, 2, 9, 10)
    assert names(tmp_path) == ["epoch-0009", "epoch-0010"]
    assert names(tmp_path / "epoch-0010") == [
        "manifest.json",
        "state.json",
        "tensors.safetensors",
    ]


def test_the_order_is_by_number_beyond_four_digits(tmp_path: Path) -> None:
    save(tmp_path, 9999, 10000)
    loaded = load_latest(tmp_path)
    assert loaded is not None
    assert loaded.epoch == 10000


def test_an_epoch_can_be_saved_again(tmp_path: Path) -> None:
    save(tmp_path, 1)
    save_checkpoint(tmp_path, 1, tensors(5), {"again": True})
    loaded = load_latest(tmp_path)
    assert loaded is not None
    assert loaded.state == {"again": True}
    assert loaded.tensors["a"][0, 0] == 5


@pytest.mark.parametrize("file", ["tensors.safetensors", "state.json", "manifest.json"])
@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
def test_a_damaged_checkpoint_is_skipped_and_named(tmp_path: Path, file: str, damage: str) -> None:
    save(tmp_path, 1, 2)
    victim = tmp_path / "epoch-0002" / file
    content = victim.read_bytes()
    if damage == "gone":
        victim.unlink()
    elif damage == "cut":
        victim.write_bytes(content[:-3])
    else:
        victim.write_bytes(content[:-5] + bytes([content[-5] ^ 1]) + content[-4:])
    loaded = load_latest(tmp_path)
    assert loaded is not None
    assert loaded.epoch == 1
    assert len(loaded.damaged) == 1
    assert "epoch-0002 is damaged" in loaded.damaged[0]


def test_a_checkpoint_under_another_number_is_damaged(tmp_path: Path) -> None:
    save(tmp_path, 1, 2)
    (tmp_path / "epoch-0002").rename(tmp_path / "epoch-0003")
    loaded = load_latest(tmp_path)
    assert loaded is not None
    assert loaded.epoch == 1


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert load_latest(tmp_path) is None
    assert load_latest(tmp_path / "nowhere") is None


def test_only_damaged_checkpoints_are_an_error(tmp_path: Path) -> None:
    save(tmp_path, 1, 2)
    for path in tmp_path.glob("*/state.json"):
        path.write_text("{}")
    with pytest.raises(RunFolderError, match=r"epoch-0002.*epoch-0001.*from the start again"):
        load_latest(tmp_path)


@pytest.mark.parametrize("step", ["write_bytes", "write_json"])
def test_a_full_disk_leaves_earlier_checkpoints_unchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    save(tmp_path, 1, 2)

    def no_space(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_module, step, no_space)
        with pytest.raises(StorageError, match=r"epoch-0003: No space left.*run the command again"):
            save(tmp_path, 3)
    loaded = load_latest(tmp_path)
    assert loaded is not None
    assert (loaded.epoch, loaded.damaged) == (2, ())
    save(tmp_path, 3)
    assert names(tmp_path) == ["epoch-0002", "epoch-0003"]


def test_the_state_must_be_plain_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        save_checkpoint(tmp_path, 1, {}, {"loss": float("nan")})
    assert load_latest(tmp_path) is None


def test_the_manifest_holds_sizes_and_hashes(tmp_path: Path) -> None:
    save(tmp_path, 4)
    manifest = json.loads((tmp_path / "epoch-0004" / "manifest.json").read_text())
    assert manifest["epoch"] == 4
    entry = manifest["files"]["state.json"]
    assert entry["bytes"] == (tmp_path / "epoch-0004" / "state.json").stat().st_size
    assert len(entry["sha256"]) == 64


def test_weights_are_written_by_epoch_and_read_back(tmp_path: Path) -> None:
    path = save_weights(tmp_path, 10000, tensors(30))
    assert path == weights_path(tmp_path, 10000)
    assert torch.equal(load_weights(path)["a"], tensors(30)["a"])


def test_an_earlier_checkpoint_can_be_asked_for(tmp_path: Path) -> None:
    for epoch in (3, 5):
        save(tmp_path, epoch)
    found = [load_latest(tmp_path, at_most=at_most) for at_most in (None, 5, 4, 2)]
    assert [checkpoint and checkpoint.epoch for checkpoint in found] == [5, 5, 3, None]


def test_damaged_weights_are_named(tmp_path: Path) -> None:
    path = save_weights(tmp_path, 1, tensors(1))
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(RunFolderError, match=r"epoch-0001\.safetensors"):
        load_weights(path)
    with pytest.raises(RunFolderError, match="cannot read the weights"):
        load_weights(tmp_path / "missing.safetensors")
