"""A run folder of somebody else, damaged anywhere: a page or a sentence, never a traceback."""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gendataagent.core.errors import GenDataAgentError
from gendataagent.report.page import render
from gendataagent.report.run_reader import read_run
from gendataagent.runs.results import read_result
from tests.report.fixture_run import build_run

NOT_JSON = ("", "[" * 100_000, "9" * 5_000, "null", "[]", "\x00\xff", "{}")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    build_run(folder, sealed=False)  # else every change stops at its hash
    return folder


@pytest.fixture(scope="module")
def damaged(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy that every example damages in one file and puts back."""
    return Path(shutil.copytree(whole, tmp_path_factory.mktemp("damaged") / "run"))


def text_files(folder: Path) -> list[Path]:
    kinds = (".json", ".jsonl", ".toml", ".parquet")
    found = [path for path in sorted(folder.rglob("*")) if path.suffix in kinds]
    return [path.relative_to(folder) for path in found if path.stat().st_size]


def open_everything(folder: Path) -> None:
    for read in (read_run, read_result):
        with contextlib.suppress(GenDataAgentError):
            read(folder)


@pytest.mark.parametrize("content", NOT_JSON, ids=lambda text: ascii(text[:8]))
def test_a_file_of_something_else_is_a_sentence(whole: Path, damaged: Path, content: str) -> None:
    for name in text_files(whole):
        (damaged / name).write_bytes(content.encode("latin-1"))
        open_everything(damaged)
        shutil.copyfile(whole / name, damaged / name)


def test_any_file_may_be_lost(whole: Path, damaged: Path) -> None:
    """The page shows the rest."""
    for name in text_files(whole):
        if name.name not in ("config.toml", "manifest.json"):
            (damaged / name).unlink()
            render(read_run(damaged), damaged)
            shutil.copyfile(whole / name, damaged / name)


PAYLOAD = "<script>alert(1)</script><img src=x onerror='alert(1)'>"


def with_payload(value: Any, key: str) -> Any:
    """Return a JSON value whose texts under a key, at any depth, are a payload."""
    if isinstance(value, dict):
        return {
            name: PAYLOAD if name == key and isinstance(inside, str) else with_payload(inside, key)
            for name, inside in value.items()
        }
    return [with_payload(inside, key) for inside in value] if isinstance(value, list) else value


def keys_of_texts(value: Any) -> set[str]:
    if isinstance(value, list):
        return {key for inside in value for key in keys_of_texts(inside)}
    if not isinstance(value, dict):
        return set()
    own = {key for key, inside in value.items() if isinstance(inside, str)}
    return own | keys_of_texts(list(value.values()))


def test_no_text_of_any_file_becomes_markup(whole: Path, damaged: Path) -> None:
    rows = {name: json_in(whole / name) for name in text_files(whole) if "json" in name.suffix}
    for key in sorted(keys_of_texts(list(rows.values()))):
        changed = [name for name, values in rows.items() if key in keys_of_texts(values)]
        for name in changed:
            texts = (json.dumps(with_payload(value, key)) for value in rows[name])
            (damaged / name).write_text("\n".join(texts), encoding="utf-8")
        with contextlib.suppress(GenDataAgentError):
            page = render(read_run(damaged), damaged)[0]
            assert "<script>" not in page, key
            assert "<img src=x" not in page, key
        for name in changed:
            shutil.copyfile(whole / name, damaged / name)


def json_in(path: Path) -> list[Any]:
    text = path.read_text("utf-8")
    return [json.loads(line) for line in (text.splitlines() if path.suffix == ".jsonl" else [text])]


@settings(max_examples=settings().max_examples // 4)
@given(data=st.data())
def test_flipped_bytes_anywhere_are_a_sentence(
    whole: Path, damaged: Path, data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(text_files(whole)))
    content = bytearray((whole / name).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content))) :]
    (damaged / name).write_bytes(bytes(content))
    try:
        open_everything(damaged)
    finally:
        shutil.copyfile(whole / name, damaged / name)
