"""Every file of a run folder damaged in every way, one at a time: refused, or the same to the bit.

A finished run and one stopped in its second round. After each damage: `verify`, `report`, the
results, the classifier, and `resume`.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gendataagent.config import RunConfig
from gendataagent.core.errors import GenDataAgentError
from gendataagent.report import write_report
from gendataagent.runs.reload import load_classifier
from gendataagent.runs.results import read_result
from gendataagent.runs.run import resume, run
from gendataagent.runs.verify import verify
from tests.runs.test_resume import AtBatch, outcome
from tests.small_world import settings_for

pytestmark = [pytest.mark.integration, pytest.mark.slow]

# What an unfinished run may lose without anything to compare it with: a mark, which makes the round
# or the run unfinished; the times; a journal as a whole, whose rows are made again; the settings
# that only change speed; and the hash of one version. Thumbnails of sources, too, which are made
# again before the round's mark has their hashes.
UNNOTICED_BY_VERIFY = (
    "DONE", "timing.json", "rendered.jsonl", "rewrites.jsonl", "sha256.jsonl", "config.toml",
)  # fmt: skip

PIECES = 6  # of the files, each a test of a minute or two

# Without them a page rightly says "not finished", or shows other times.
STATE_OF_THE_PAGE = ("DONE", "timing.json")


@pytest.fixture(scope="module")
def runs(
    photo_folder: Path, tiny_pipeline_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """A finished run, the same run stopped in its second round, and a finished one of a seed more.

    All are read at one path, because a report names it.
    """
    config = settings_for(photo_folder, tiny_pipeline_folder)
    root = tmp_path_factory.mktemp("runs")
    run(config, root / "finished")
    run(RunConfig.from_dict({**config.to_dict(), "seed": 8}), root / "other")
    with pytest.raises(KeyboardInterrupt):
        run(config, root / "stopped", progress=AtBatch(1, 2))
    return {name: root / name for name in ("finished", "other", "stopped")}


def results(folder: Path) -> str:
    """Return what `evaluate` prints, without times and paths."""
    text = re.sub(r"(seconds|peak_memory_mib)=\{[^}]*\}", "", repr(read_result(folder)))
    return re.sub(r"PosixPath\('[^']*'\)", "", text)


def classifier(folder: Path) -> dict[str, bytes]:
    module = load_classifier(folder, device="cpu").module
    return {name: value.numpy().tobytes() for name, value in module.state_dict().items()}


def page(folder: Path) -> str:
    """Return the page, without times; of a run with damaged files, what it says of them."""
    problems: list[str] = []
    text = write_report(folder, folder.parent / "page.html", on_problem=problems.append).read_text()
    if problems:
        raise GenDataAgentError("; ".join(problems))
    text = re.sub(r"<title>.*?</title>|\d[\d.,]*\s*(?:s|ms|min|h|MiB)\b", "", text)
    return re.sub(r'<section id="time">.*?</section>', "", text, flags=re.S)


def resumed(folder: Path) -> dict[str, Any]:
    resume(folder)
    return {**outcome(folder), "results": results(folder)}


def noticed(folder: Path) -> bool:
    """Return whether `verify` finds that anything is wrong."""
    try:
        return any(part.damaged for part in verify(folder))
    except GenDataAgentError:
        return True


ACTIONS: dict[str, dict[str, Callable[[Path], Any]]] = {
    "finished": {"results": results, "classifier": classifier, "page": page},
    "stopped": {"page": page, "resumed": resumed},
}


def damages(folder: Path, name: str, other: Path) -> Iterator[tuple[str, bytes | None]]:
    """Yield the ways to damage a file: what it is called, and the new content; None = deleted."""
    content = (folder / name).read_bytes()
    yield "deleted", None
    if not content:
        return
    middle = len(content) // 2
    yield "flipped", content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    yield "cut", content[:middle]
    digits = [found.start() for found in re.finditer(rb"[0-8](?=[,}\]\s])", content)]
    if name.endswith((".json", ".jsonl")) and digits:
        at = digits[len(digits) // 2]
        yield "a digit", content[:at] + bytes([content[at] + 1]) + content[at + 1 :]
    places = [other / name]
    if "/001/" in name:
        places.append(folder / name.replace("/001/", "/000/"))
    for place in places:
        if place.is_file() and place.read_bytes() != content:
            yield f"of {place.parent.parent.name}", place.read_bytes()


def one_of_each(folder: Path) -> list[str]:
    """Return the files of a run; of the images in a folder the first."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ".lock"]
    chosen = {(path.parent, path.suffix if path.suffix == ".png" else path.name): path
              for path in reversed(paths)}  # fmt: skip
    return sorted(path.relative_to(folder).as_posix() for path in chosen.values())


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("piece", range(PIECES))
@pytest.mark.parametrize("state", ["finished", "stopped"])
def test_no_damage_changes_a_result_in_silence(
    state: str, piece: int, runs: dict[str, Path], tmp_path: Path
) -> None:
    source, place = runs[state], tmp_path / "run"

    def fresh() -> None:
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(source, place)

    def damage(name: str, content: bytes | None) -> None:
        if content is None:
            (place / name).unlink()
        else:
            (place / name).write_bytes(content)

    fresh()
    expected = {}
    for action, act in ACTIONS[state].items():
        expected[action] = act(place)
    fresh()
    wrong, tried = [], 0
    for name in one_of_each(source)[piece::PIECES]:
        for how, content in damages(source, name, runs["other"]):
            tried += 1
            damage(name, content)
            thumbnail = state == "stopped" and "rounds/001/sources/" in name
            if not (noticed(place) or thumbnail or name.endswith(UNNOTICED_BY_VERIFY)):
                wrong.append(f"{name} {how}: not noticed by verify")
            for action, act in ACTIONS[state].items():
                if action == "page" and name.endswith(STATE_OF_THE_PAGE):
                    continue
                try:
                    if act(place) != expected[action]:
                        wrong.append(f"{name} {how}: other {action}")
                except GenDataAgentError:
                    continue  # a sentence
                except Exception as error:  # anything else is a traceback
                    wrong.append(f"{name} {how}: {action} ended with {error!r}")
            if state == "stopped":  # which `resume` has changed
                fresh()
            else:
                (place / name).write_bytes((source / name).read_bytes())
    assert wrong == []
    assert tried > 10
