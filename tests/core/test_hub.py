"""Models on disk or on a hub: every fault ends in a sentence that says what to do."""

from __future__ import annotations

import importlib
import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import errors as hub_errors
from safetensors.torch import save_file

from gendataagent.core import hub
from gendataagent.core.errors import ModelError
from gendataagent.core.hub import ModelSource

SOURCE = ModelSource(
    setting="prompting.captioner",
    kind="an image-to-text model",
    name="someone/model",
    revision="v1",
    instead="Or take none.",
)
# The library that the hub's one speaks HTTP with: httpx, or a fork of it.
http = importlib.import_module(hub_errors.HfHubHTTPError.__mro__[1].__module__.partition(".")[0])
RESPONSE = http.Response(404, request=http.Request("GET", "https://hub.invalid/api"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A complete model of two shards."""
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text('{"model_type": "bert"}', encoding="utf-8")
    for number in (1, 2):
        save_file({f"w{number}": torch.arange(6.0)}, model / f"model-{number}.safetensors")
    index = {"weight_map": {f"w{number}": f"model-{number}.safetensors" for number in (1, 2)}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    return model


def of_folder(folder: Path) -> ModelSource:
    return replace(SOURCE, name=str(folder), revision="")


def returning(*answers: Any) -> tuple[Callable[..., Any], list[dict[str, Any]]]:
    """A loader that raises or returns one answer a call, and what it was asked with."""
    remaining, asked = list(answers), []

    def load(place: str, **options: Any) -> Any:
        asked.append({"place": place, **options})
        answer = remaining.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return load, asked


def message_of(error: Exception, *, source: ModelSource = SOURCE) -> str:
    loader, _ = returning(hub_errors.LocalEntryNotFoundError("not here"), error)
    with pytest.raises(ModelError) as caught:
        hub.load(source, loader)
    message = str(caught.value)
    assert message.startswith(f"prompting.captioner: cannot load '{source.name}' as an image-to-")
    assert message.endswith("Or take none.")
    assert "\n" not in message
    return message


def test_a_complete_folder_is_loaded_without_network_access(folder: Path) -> None:
    loader, asked = returning("model")
    assert hub.load(of_folder(folder), loader) == "model"
    assert asked == [{"place": str(folder), "local_files_only": True, "trust_remote_code": False}]
    hub.check(of_folder(folder))


def no_index(folder: Path) -> None:
    (folder / "config.json").unlink()


def garbled_index(folder: Path) -> None:
    (folder / "config.json").write_text("{", encoding="utf-8")


def cut_weights(folder: Path) -> None:
    path = folder / "model-1.safetensors"
    path.write_bytes(path.read_bytes()[:-5])


def almost_no_weights(folder: Path) -> None:
    (folder / "model-1.safetensors").write_bytes(b"\x80\x01")


def a_page_instead_of_weights(folder: Path) -> None:
    (folder / "model-1.safetensors").write_bytes((8).to_bytes(8, "little") + b"<html></html>")


def missing_shard(folder: Path) -> None:
    (folder / "model-2.safetensors").unlink()


def only_pickled(folder: Path) -> None:
    for path in folder.glob("*.safetensors"):
        path.unlink()
    torch.save({}, folder / "pytorch_model.bin")


def a_broken_link(folder: Path) -> None:
    path = folder / "model-1.safetensors"
    path.unlink()
    path.symlink_to(folder.parent / "blobs" / "c0ffee")


def a_pipe(folder: Path) -> None:
    path = folder / "model-1.safetensors"
    path.unlink()
    os.mkfifo(path)


def a_pipe_as_index(folder: Path) -> None:
    path = folder / "model.safetensors.index.json"
    path.unlink()
    os.mkfifo(path)


def nested_index(folder: Path) -> None:
    (folder / "config.json").write_text("[" * 100_000 + "]" * 100_000, encoding="utf-8")


def overlapping_tensors(folder: Path) -> None:
    path = folder / "model-1.safetensors"
    entry = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}
    header = json.dumps({"a": entry, "b": {**entry, "data_offsets": [8, 24]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(24))


def a_shape_of_another_size(folder: Path) -> None:
    path = folder / "model-1.safetensors"
    entry = {"dtype": "F32", "shape": [5], "data_offsets": [0, 24]}
    header = json.dumps({"a": entry}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(24))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (a_broken_link, "model-1.safetensors is a link to a file that is not there"),
        (a_pipe, "model-1.safetensors is not a regular file"),
        (a_pipe_as_index, "lacks model.safetensors.index.json"),
        (nested_index, "config.json cannot be read"),
        (overlapping_tensors, "model-1.safetensors has a damaged header"),
        (a_shape_of_another_size, "model-1.safetensors has a damaged header"),
        (no_index, "has no config.json, so it is not an image-to-text model"),
        (garbled_index, "config.json cannot be read"),
        (cut_weights, r"model-1.safetensors has \d+ of \d+ bytes; download it again"),
        (almost_no_weights, r"model-1.safetensors is truncated \(2 bytes\)"),
        (a_page_instead_of_weights, "model-1.safetensors is not a safetensors file"),
        (missing_shard, r"lacks model-2.safetensors, listed in .*index.json"),
        (only_pickled, r"no safetensors weights \(pytorch_model.bin are pickled"),
    ],
)
def test_an_incomplete_folder_is_refused_before_it_is_loaded(
    damage: Callable[[Path], None], says: str, folder: Path
) -> None:
    damage(folder)
    loader, asked = returning()
    for call in (lambda s: hub.load(s, loader), hub.check):
        with pytest.raises(ModelError, match=says) as caught:
            call(of_folder(folder))
        assert str(caught.value).startswith(f"prompting.captioner: the folder {folder}")
        assert str(caught.value).endswith("Or take none.")
    assert asked == []


@pytest.mark.parametrize("name", ["./nowhere", "/no/where", "~/no-such-folder", "a/b/c", "a\\b"])
def test_a_path_is_not_requested_from_the_hub(name: str) -> None:
    source = replace(SOURCE, name=name)
    loader, asked = returning()
    for call in (lambda s: hub.load(s, loader), hub.check):
        with pytest.raises(ModelError, match="there is no folder"):
            call(source)
    assert asked == []
    assert hub.revision_of(source) == "v1"
    assert not hub.is_here(source)


def test_the_hub_is_asked_only_for_missing_models() -> None:
    loader, asked = returning("model")
    assert hub.load(SOURCE, loader) == "model"
    assert [call["local_files_only"] for call in asked] == [True]
    loader, asked = returning(OSError("not here"), "model")
    assert hub.load(replace(SOURCE, trust_remote_code=True), loader) == "model"
    assert [call["local_files_only"] for call in asked] == [True, False]
    assert all(call["revision"] == "v1" and call["trust_remote_code"] for call in asked)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (
            hub_errors.GatedRepoError("Access restricted", response=RESPONSE),
            "gated. Accept its terms at",
        ),
        (hub_errors.RevisionNotFoundError("404", response=RESPONSE), "has no revision 'v1' of it"),
        (hub_errors.RepositoryNotFoundError("404", response=RESPONSE), "the hub has no such model"),
        (
            hub_errors.LocalEntryNotFoundError("no connection"),
            "at revision 'v1', and the hub cannot be",
        ),
        (hub_errors.OfflineModeIsEnabled("offline"), "the hub cannot be reached"),
        (http.ConnectError("refused"), "the hub cannot be reached"),
        (
            ValueError("requires you to execute ... set trust_remote_code=True"),
            "read the code.*--trust-remote-code",
        ),
        (torch.OutOfMemoryError("CUDA out of memory"), "there is not enough memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "there is not enough memory"),
        (ModuleNotFoundError("No module named 'timm'"), r"a package is missing \(No module named"),
        (KeyError("odd"), "'odd'. If its files on this machine are incomplete: hf download"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_every_fault_says_what_to_do(error: Exception, says: str) -> None:
    assert re.search(says, message_of(error))


def test_a_fault_wrapped_by_another_library_is_recognised() -> None:
    outer = OSError("You are trying to access a repo")
    outer.__cause__ = hub_errors.GatedRepoError("403", response=RESPONSE)
    assert "Accept its terms at https://huggingface.co/someone/model" in message_of(outer)


def test_an_error_of_the_files_is_not_mistaken_for_one_of_the_network() -> None:
    message = message_of(ValueError("size mismatch for layer 3"))
    assert "size mismatch for layer 3" in message
    assert "cannot be reached" not in message


def test_a_model_error_of_the_loader_is_unchanged(folder: Path) -> None:
    for source in (SOURCE, of_folder(folder)):
        loader, _ = returning(ModelError("the tokenizer does not fit; do this"))
        with pytest.raises(ModelError, match=r"^the tokenizer does not fit; do this$"):
            hub.load(source, loader)


@pytest.fixture
def cached(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The model in a hub cache, at commit "c0ffee"; returns its folder there."""
    from huggingface_hub import constants

    home = tmp_path / "hub"
    place = home / "models--someone--model" / "snapshots" / ("c0ffee" * 7)[:40]
    place.parent.mkdir(parents=True)
    folder.rename(place)
    refs = home / "models--someone--model" / "refs"
    refs.mkdir()
    for name in ("main", "v1"):
        (refs / name).write_text(place.name, encoding="utf-8")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home))
    return place


def test_a_cached_hub_model_is_known_by_its_commit(cached: Path) -> None:
    assert hub.is_here(SOURCE)
    assert hub.revision_of(SOURCE) == cached.name
    assert hub.revision_of(replace(SOURCE, revision="")) == cached.name
    hub.check(SOURCE)
    other = replace(SOURCE, revision="v2")
    assert not hub.is_here(other)
    assert hub.revision_of(other) == "v2"
    with pytest.raises(ModelError, match="at revision 'v2', and the hub cannot be reached"):
        hub.check(other)


def test_broken_local_files_are_named_rather_than_the_missing_network(cached: Path) -> None:
    assert cached.is_dir()
    loader, _ = returning(
        ValueError("header too large"), hub_errors.OfflineModeIsEnabled("offline")
    )
    with pytest.raises(ModelError, match=r"header too large\. If its files on this machine"):
        hub.load(SOURCE, loader)


def test_the_first_mirror_that_has_a_model_is_used(cached: Path) -> None:
    assert cached.is_dir()
    gone = replace(SOURCE, name="gone/model")
    mirror = replace(SOURCE, name="mirror/model")
    not_found = hub_errors.RepositoryNotFoundError("404", response=RESPONSE)
    loader, asked = returning(OSError(), not_found, "model")
    assert hub.load_first([gone, mirror], loader) == (mirror, "model")
    assert [call["place"] for call in asked] == ["gone/model", "gone/model", "mirror/model"]
    # what is on this machine goes first
    loader, asked = returning("model")
    assert hub.load_first([gone, SOURCE], loader) == (SOURCE, "model")
    assert [call["place"] for call in asked] == ["someone/model"]
    # none has it: the first is spoken of
    loader, _ = returning(OSError(), not_found, OSError(), not_found)
    with pytest.raises(ModelError, match=r"'gone/model'.*the hub has no such model"):
        hub.load_first([gone, mirror], loader)


@pytest.mark.parametrize(
    "error",
    [
        hub_errors.GatedRepoError("403", response=RESPONSE),
        hub_errors.OfflineModeIsEnabled("offline"),
    ],
)
def test_other_mirrors_are_not_tried_for_other_faults(error: Exception) -> None:
    loader, asked = returning(OSError(), error)
    with pytest.raises(ModelError, match="'gone/model'"):
        hub.load_first([replace(SOURCE, name="gone/model"), SOURCE], loader)
    assert len(asked) == 2


def test_litter_beside_the_weights_is_no_part_of_a_model(folder: Path) -> None:
    before = hub.content_hash(folder)
    for name in ("._model-1.safetensors", "._config.json", "._x.safetensors.index.json"):
        (folder / name).write_bytes(b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        ")
    hub.check(of_folder(folder))
    assert hub.content_hash(folder) == before


def test_a_hash_covers_names_and_contents(folder: Path) -> None:
    before = hub.content_hash(folder)
    (folder / "notes.md").write_text("not part of the model", encoding="utf-8")
    assert hub.content_hash(folder) == before
    path = folder / "model-1.safetensors"
    hashed = hub.file_hash(path)
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    assert hub.content_hash(folder) != before
    assert hub.file_hash(path) != hashed
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ModelError, match="bytes; download it again"):
        hub.check_file("generation.lora", path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("name", ["config.json", "model-1.safetensors", "tokenizer.json"])
def test_a_pipe_in_a_model_folder_is_not_opened(folder: Path, name: str) -> None:
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    with pytest.raises(ModelError, match=name.replace(".", r"\.")):
        hub.check_folder(of_folder(folder), folder)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a": ' + "9" * 5_000 + "}", ""], ids=["deep", "long number", "empty"]
)
@pytest.mark.parametrize("name", ["config.json", "model.safetensors.index.json"])
def test_json_of_any_content_in_a_model_folder_is_a_sentence(
    folder: Path, name: str, text: str
) -> None:
    (folder / name).write_text(text, encoding="utf-8")
    with pytest.raises(ModelError, match=name.replace(".", r"\.")):
        hub.check_folder(of_folder(folder), folder)
