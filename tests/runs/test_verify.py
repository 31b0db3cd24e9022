"""Every kind of damage to a run folder is found by `verify`, and none is used in silence."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gendataagent.cli import app
from gendataagent.config import RunConfig
from gendataagent.core import files
from gendataagent.core.errors import ConfigError, RunFolderError
from gendataagent.core.journal import append_row, read_journal
from gendataagent.core.record_table import RecordTable
from gendataagent.core.records import Candidate
from gendataagent.core.run_folder import RunFolder
from gendataagent.experiments.measures import rows_of_runs
from gendataagent.report import write_report
from gendataagent.runs.exporting.datasets import export_data
from gendataagent.runs.exporting.models import export_model
from gendataagent.runs.reload import evaluate_corrupted, evaluate_on, load_classifier
from gendataagent.runs.results import read_result
from gendataagent.runs.run import resume, run
from gendataagent.runs.splits import read_splits
from gendataagent.runs.verify import verify
from tests.runs.test_resume import AtBatch, Interrupting, outcome
from tests.small_world import settings_for
from tests.tables import rows_of

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def config(photo_folder: Path, tiny_pipeline_folder: Path) -> RunConfig:
    return settings_for(photo_folder, tiny_pipeline_folder)


@pytest.fixture(scope="module")
def finished(config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("finished") / "run"
    run(config, path)
    return path


@pytest.fixture(scope="module")
def halfway(config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stopped in the second round, when its first images are on disk."""
    path = tmp_path_factory.mktemp("halfway") / "run"
    with pytest.raises(KeyboardInterrupt):
        run(config, path, progress=AtBatch(1, 2))
    assert len(read_journal(path / "rounds" / "001" / "rendered.jsonl")) == 2
    return path


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "copy"))


@pytest.fixture
def stopped(halfway: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(halfway, tmp_path / "stopped"))


def flip(path: Path, place: float = 0.5) -> Path:
    """Change one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 1
    path.write_bytes(content)
    return path


def damaged(folder: Path) -> list[str]:
    return [
        damage.path.relative_to(folder).as_posix()
        for part in verify(folder)
        for damage in part.damaged
    ]


def test_a_whole_run_is_whole_wherever_it_is_moved(copy: Path, halfway: Path) -> None:
    parts = verify(copy)
    assert damaged(copy) == []
    assert [part.part for part in parts] == [
        "settings", "start", "round 0", "round 1", "snapshots", "checkpoints", "end",
    ]  # fmt: skip
    assert sum(part.files for part in parts) > 60
    assert damaged(halfway) == []


def test_a_changed_bit_in_any_file_that_a_run_stands_on_is_found(copy: Path) -> None:
    skipped = {".lock", "config.toml", "sha256.jsonl"}
    paths = [path for path in sorted(copy.rglob("*")) if path.is_file()]
    paths = [path for path in paths if path.name not in skipped and path.stat().st_size]
    assert len(paths) > 60
    for path in paths:
        content = path.read_bytes()
        flip(path)
        found = damaged(copy)
        whole = path.parent if path.parent.parent.name == "checkpoints" else path
        assert whole.relative_to(copy).as_posix() in found, path
        path.write_bytes(content)
    assert damaged(copy) == []


def test_the_command_prints_a_table_and_ends_with_1(copy: Path) -> None:
    good = CliRunner().invoke(app, ["verify", str(copy), "--images"])
    assert good.exit_code == 0, good.output
    assert "real images" in good.output
    assert "are what was written" in good.output
    flip(copy / "rounds" / "000" / "judged.parquet")
    next((copy / "pool" / "001").glob("*.png")).unlink()
    bad = CliRunner().invoke(app, ["verify", str(copy)])
    assert bad.exit_code == 1
    assert "2 of" in bad.output
    assert "judged.parquethaschangedsinceitwas" in "".join(bad.output.split())  # long paths wrap


def test_a_changed_setting_is_found(copy: Path) -> None:
    text = (copy / "config.toml").read_text(encoding="utf-8")
    (copy / "config.toml").write_text(text.replace("seed = 7", "seed = 8"), encoding="utf-8")
    assert damaged(copy) == ["config.toml"]
    with pytest.raises(RunFolderError, match=r"config\.toml has changed since the run was started"):
        read_result(copy)


def test_a_run_without_its_settings_is_no_folder_to_start_a_run_in(copy: Path) -> None:
    (copy / "config.toml").unlink()
    for read in (read_result, verify, resume):
        with pytest.raises(RunFolderError, match=r"config\.toml is missing.*Put it back"):
            read(copy)


def test_a_setting_that_cannot_be_read_names_its_file(copy: Path) -> None:
    text = (copy / "config.toml").read_text(encoding="utf-8")
    (copy / "config.toml").write_text(text.replace("seed = 7", "seed = true"), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"copy/config\.toml: seed must be an integer"):
        read_result(copy)


@pytest.mark.parametrize("name", ["evaluation.json", "metrics.jsonl"])
def test_changed_figures_are_not_read(name: str, copy: Path) -> None:
    path = copy / name
    path.write_text(path.read_text(encoding="utf-8").replace("1", "2", 1), encoding="utf-8")
    with pytest.raises(RunFolderError, match=rf"{name} has changed.*gendataagent verify"):
        read_result(copy)


def test_a_changed_classifier_is_not_loaded(copy: Path) -> None:
    flip(copy / "classifier" / "model.safetensors", 0.9)
    with pytest.raises(RunFolderError, match=r"model\.safetensors has changed"):
        load_classifier(copy)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"train": "x"}'])
def test_a_damaged_timing_blocks_nothing(content: bytes, copy: Path, stopped: Path) -> None:
    for folder in (copy, stopped):
        (folder / "timing.json").write_bytes(content)
    assert read_result(copy).evaluations
    assert RunFolder(stopped).read_timing() == {}


@pytest.mark.parametrize("name", ["metrics.jsonl", "rounds/001/rewrites.jsonl", "pool/001"])
def test_damage_to_what_an_unfinished_run_has_so_far_is_found(name: str, stopped: Path) -> None:
    path = stopped / name
    path = next(path.glob("*.png")) if path.is_dir() else path
    assert damaged(stopped) == []
    flip(path)
    assert damaged(stopped) == [path.relative_to(stopped).as_posix()]


@pytest.mark.parametrize("lost", ["flipped", "half", "deleted"])
def test_rewrites_that_are_lost_are_asked_for_again(
    lost: str, stopped: Path, finished: Path
) -> None:
    """Their prompts are on disk, but not who wrote them, which the round's record says."""
    path = stopped / "rounds" / "001" / "rewrites.jsonl"
    if lost == "flipped":
        flip(path)
    elif lost == "half":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    else:
        path.unlink()
    resume(stopped)
    assert outcome(stopped) == outcome(finished)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("rounds/001/record.json", "flip"),
        ("rounds/001/record.json", "other round"),
        ("rounds/001/record.json", "delete"),
        ("rounds/001/DONE", "delete"),
        ("rounds/001/DONE", "other round"),
        ("rounds/001", "delete"),
    ],
)
def test_rounds_of_a_finished_run_that_have_changed_are_not_counted(
    name: str, change: str, copy: Path
) -> None:
    path = copy / name
    if change == "flip":
        flip(path)
    elif change == "other round":
        shutil.copyfile(copy / name.replace("001", "000"), path)
    elif path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    with pytest.raises(RunFolderError, match=r"(record\.json|DONE) (has changed|is missing)"):
        read_result(copy)


def test_what_is_damaged_in_an_unfinished_round_is_made_again(
    stopped: Path, finished: Path
) -> None:
    flip(next((stopped / "pool" / "001").glob("*.png")))
    for name in ("selected.parquet", "candidates.parquet", "rendered.jsonl", "rewrites.jsonl"):
        flip(stopped / "rounds" / "001" / name)
    (stopped / "timing.json").write_bytes(b"{")
    resume(stopped)
    assert outcome(stopped) == outcome(finished)
    assert damaged(stopped) == []


def test_thumbnails_that_an_unfinished_round_lost_are_made_again(
    stopped: Path, finished: Path
) -> None:
    """Their images may be rendered already, so that no one reads their sources again."""
    sources = sorted((stopped / "rounds" / "001" / "sources").glob("*.png"))
    flip(sources[0])
    sources[-1].unlink()
    resume(stopped)
    for number in ("000", "001"):
        there, expected = (
            contents(path / "rounds" / number / "sources") for path in (stopped, finished)
        )
        assert [*there.values()] == [*expected.values()]
    assert damaged(stopped) == []


@pytest.mark.parametrize("name", ["rewrites.jsonl", "rendered.jsonl"])
def test_a_journal_of_another_round_is_found_and_made_again(
    name: str, stopped: Path, finished: Path
) -> None:
    path = stopped / "rounds" / "001" / name
    shutil.copyfile(stopped / "rounds" / "000" / name, path)
    assert damaged(stopped) == [f"rounds/001/{name}"]
    resume(stopped)
    assert outcome(stopped) == outcome(finished)


@pytest.mark.parametrize("name", ["selected.parquet", "judged.parquet", "record.json"])
def test_a_finished_round_that_is_damaged_is_refused_and_can_be_made_again(
    name: str, stopped: Path, finished: Path
) -> None:
    flip(stopped / "rounds" / "000" / name)
    with pytest.raises(RunFolderError, match=rf"round 0 .*{name} has changed.*remove .*DONE"):
        resume(stopped)
    (stopped / "rounds" / "000" / "DONE").unlink()
    resume(stopped)
    assert outcome(stopped) == outcome(finished)


@pytest.mark.parametrize("lost", ["deleted", "flipped", "folder"])
def test_lost_snapshots_are_made_again_and_never_switch_the_filter_off(
    lost: str, stopped: Path, finished: Path
) -> None:
    path = sorted((stopped / "snapshots").iterdir())[0]
    if lost == "folder":
        shutil.rmtree(stopped / "snapshots")
    elif lost == "deleted":
        path.unlink()
    else:
        flip(path, 0.9)
    said: list[str] = []

    class Listening(Interrupting):
        def say(self, message: str) -> None:
            said.append(message)

    resume(stopped, progress=Listening())
    assert any("it is made again, and training repeats" in message for message in said)
    assert outcome(stopped) == outcome(finished)


@pytest.mark.parametrize("name", ["manifest.json", "data/splits.jsonl"])
def test_a_changed_record_of_the_start_is_refused(name: str, stopped: Path) -> None:
    flip(stopped / name)
    with pytest.raises(RunFolderError, match=rf"{name} has changed"):
        resume(stopped)


def test_other_images_under_the_same_names_are_found(
    config: RunConfig, stopped: Path, tmp_path: Path
) -> None:
    data = Path(shutil.copytree(config.data.path, tmp_path / "photos"))
    assert verify(stopped, images=True, data=str(data))[-1].whole
    first, second = (next(folder.iterdir()) for folder in sorted((data / "train").iterdir())[:2])
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)
    (damage,) = verify(stopped, images=True, data=str(data))[-1].damaged
    assert f"other content: train/{first.parent.name}/{first.name}" in str(damage)


def test_a_stranger_s_records_lead_to_no_file_outside_the_run(
    stopped: Path, tmp_path: Path
) -> None:
    """Ids that are paths, with hashes that fit: no image is written or read elsewhere."""
    folder, victim = RunFolder(stopped), tmp_path / "victim.png"
    victim.write_bytes(b"mine")
    path = stopped / "rounds" / "001" / "candidates.parquet"
    rows = rows_of(path)
    rows[-1]["id"] = f"../../../{victim.stem}"
    with folder.writer(path) as stream:
        RecordTable.of(Candidate, [Candidate(**row) for row in rows]).write(stream)
    journal = stopped / "rounds" / "001" / "rewrites.jsonl"
    append_row(journal, {rows[-1]["id"]: {"text": "a", "by": "", "refusals": []}})
    with pytest.raises(RunFolderError, match="id is not a name but a path"):
        resume(stopped)
    assert victim.read_bytes() == b"mine"


LINKED = (
    "config.toml", "manifest.json", "DONE", ".lock", "sha256.jsonl", "evaluation.json", "data",
    "data/splits.jsonl", "rounds", "rounds/001", "rounds/001/DONE", "rounds/000/sources",
    "rounds/001/rendered.jsonl", "rounds/000/judged.parquet", "pool", "pool/001", "pool/001/*.png",
    "snapshots", "snapshots/*", "checkpoints", "checkpoints/*", "classifier",
    "classifier/model.safetensors", "classifier/config.json",
)  # fmt: skip

READERS: dict[str, Callable[[Path], object]] = {
    "verify": verify,
    "resume": resume,
    "report": write_report,
    "results": read_result,
    "compare": lambda run: rows_of_runs([run]),
    "predict": load_classifier,
    "evaluate": lambda run: evaluate_on(run, "nowhere"),
    "corruptions": evaluate_corrupted,
    "images": read_splits,
    "export": lambda run: export_model(run, "safetensors", run.parent / "exported"),
    "export-data": lambda run: export_data(run, "parquet", run.parent / "exported"),
}  # fmt: skip


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.skipif(sys.platform == "win32", reason="links need a permission there")
@pytest.mark.parametrize("name", LINKED)
def test_nothing_is_read_or_written_through_a_link_that_leads_out(
    name: str, copy: Path, tmp_path: Path
) -> None:
    """Somebody else's run folder, in which any part is a link to a place of this user."""
    path = next(copy.glob(name))
    victim = tmp_path / "mine" / path.name
    victim.parent.mkdir()
    path.rename(victim)
    path.symlink_to(victim)
    before = contents(victim.parent), sorted(copy.parent.iterdir())
    named = re.escape(f"{path} is a link that leads out of {copy}, to {victim}")
    for reads in READERS.values():
        with pytest.raises(RunFolderError, match=named):
            reads(copy)
    assert (contents(victim.parent), sorted(copy.parent.iterdir())) == before


@pytest.mark.skipif(sys.platform == "win32", reason="links need a permission there")
@pytest.mark.parametrize("name", [".lock", "sha256.jsonl", "rounds/001", "pool"])
def test_a_stopped_run_with_such_a_link_is_not_resumed(
    name: str, stopped: Path, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    (stopped / name).rename(victim)
    (stopped / name).symlink_to(os.path.relpath(victim, (stopped / name).parent))
    before = contents(victim) if victim.is_dir() else victim.read_bytes()
    for reads in (resume, verify, write_report):
        with pytest.raises(RunFolderError, match=r"is a link that leads out of .*victim"):
            reads(stopped)
    assert (contents(victim) if victim.is_dir() else victim.read_bytes()) == before


def test_a_link_to_a_place_inside_is_no_way_out(stopped: Path, finished: Path) -> None:
    """And the run folder may itself be reached through a link."""
    (stopped / "first-round").symlink_to("rounds/000")
    link = stopped.with_name("link")
    link.symlink_to(stopped)
    resume(link)
    (stopped / "first-round").unlink()
    assert outcome(stopped) == outcome(finished)


def test_a_stranger_s_journals_have_no_file_outside_hashed(copy: Path, stopped: Path) -> None:
    """Nor do they end `verify` with a traceback."""
    outside = copy.parent / "mine.png"
    outside.write_bytes(b"mine")
    digest = files.file_sha256(outside)
    append_row(stopped / "sha256.jsonl", {"file": "snapshots/../../mine.png", "sha256": digest})
    journal = stopped / "rounds" / "001" / "rendered.jsonl"
    append_row(journal, {"sha256": {"../../../mine": digest, "a": [1]}})
    append_row(journal, {"sha256": [1]})
    (stopped / "rounds" / "0x").mkdir()
    found = [str(damage) for part in verify(stopped) for damage in part.damaged]
    assert len(found) == 2, found
    assert all("no file of this folder" in line for line in found)
