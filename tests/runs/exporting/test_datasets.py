"""The images of a run as a data set: what is in it, what its card says, what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from gendataagent.agent.pool import Pool
from gendataagent.agent.provenance import read_provenance
from gendataagent.core.errors import ConfigError, DataError, RunFolderError
from gendataagent.core.run_folder import RunFolder
from gendataagent.runs.exporting.data_formats import DATA_FORMATS
from gendataagent.runs.exporting.datasets import export_data
from gendataagent.runs.results import read_result
from tests.cli.test_cli import _type
from tests.runs.test_resume import Interrupting

pytestmark = pytest.mark.integration


def kept_ids(run: Path) -> set[str]:
    pool = Pool(RunFolder.open(run), ())
    return {c.id for number in range(2) for c in pool.candidates(number) if c.kept}


@pytest.mark.parametrize("to", DATA_FORMATS)
def test_a_run_as_a_data_set(
    to: str,
    exported_run: Path,
    photo_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    for _ in range(2):  # the second replaces the first
        code = _type(monkeypatch, "export-data", str(exported_run), "--to", to, "--out", str(out))
        printed = capsys.readouterr()
        assert code == 0, printed.err
    kept = read_result(exported_run).images_kept
    assert kept
    assert f"48 real and {kept} synthetic images" in printed.out
    assert "are near-duplicates of a test image" in printed.out
    assert "Memorisation ratio" in printed.out
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    card = (out / "README.md").read_text(encoding="utf-8")
    for part in (
        f"48 real and {kept} synthetic images of 3 classes", "dög mit Leerzeichen",
        "train, synthetic", "tiny-random-sd", "Memorisation ratio", "Leakage", "Terms",
        "seed 7",
    ):  # fmt: skip
        assert part in card
    for path in out.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert str(exported_run.parent).encode() not in content, path
            assert str(photo_folder).encode() not in content, path


def test_real_and_kept_images_by_split(exported_run: Path, tmp_path: Path) -> None:
    out = export_data(exported_run, "parquet", tmp_path / "out").path
    tables = {
        split: pq.read_table(out / "data" / f"{split}-00000-of-00001.parquet").to_pylist()
        for split in ("train", "validation", "test")
    }
    recorded = RunFolder.open(exported_run).recorded_images()
    for split, rows in tables.items():
        real = {row["id"]: row["class_name"] for row in rows if row["source"] == "real"}
        assert real == {r["id"]: r["class"] for r in recorded if r["split"] == split}
        made = {row["id"] for row in rows if row["source"] == "synthetic"}
        assert made == (kept_ids(exported_run) if split == "train" else set())


def test_kept_images_alone_with_their_history(exported_run: Path, tmp_path: Path) -> None:
    found = export_data(exported_run, "imagefolder", tmp_path / "out", only="kept")
    assert (found.real, found.synthetic) == (0, len(kept_ids(exported_run)))
    rows = pq.read_table(found.path / "train" / "metadata.parquet").to_pylist()
    run = RunFolder.open(exported_run).read_manifest().config_hash
    candidates = {
        c.id: c for n in range(2) for c in Pool(RunFolder(exported_run), ()).candidates(n)
    }
    for row in rows:
        made = candidates[row["id"]]
        assert (row["prompt"], row["seed"]) == (made.prompt, made.seed)
        assert row["file_name"].startswith(f"{made.class_name}/")
        with Image.open(found.path / "train" / row["file_name"]) as image:
            assert read_provenance(image) == {
                "synthetic": "true",
                "generator": f"{made.generator}@{made.generator_revision}",
                "prompt": made.prompt,
                "run": run,
            }


def test_kept_images_can_be_exported_when_the_real_ones_are_gone(
    exported_run: Path, photo_folder: Path, tmp_path: Path
) -> None:
    moved = Path(shutil.copytree(photo_folder, tmp_path / "moved"))
    run = Path(shutil.copytree(exported_run, tmp_path / "run"))
    text = (run / "config.toml").read_text(encoding="utf-8")
    gone = text.replace(str(photo_folder), str(tmp_path / "gone"))
    (run / "config.toml").write_text(gone, encoding="utf-8")
    with pytest.raises(DataError, match="name their place with --data"):
        export_data(run, "csv", tmp_path / "out")
    found = export_data(run, "csv", tmp_path / "out", only="kept")
    assert found.notes[0].startswith("The real images cannot be read: ")
    card = (found.path / "README.md").read_text(encoding="utf-8")
    assert "were not measured: the real images were not at hand" in card
    assert str(tmp_path) not in card
    assert export_data(run, "csv", tmp_path / "out", data=str(moved)).real == 48


def test_an_unfinished_run_is_exported_as_far_as_it_is(exported_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(exported_run, tmp_path / "run"))
    for path in (run / "DONE", run / "rounds" / "001" / "DONE"):
        path.unlink()
    found = export_data(run, "csv", tmp_path / "out", only="kept")
    assert found.synthetic == sum(c.kept for c in Pool(RunFolder(run), ()).candidates(0))
    assert "The run is not finished; 1 rounds of it are exported." in found.notes


def test_an_agents_folder_has_its_synthetic_images(exported_run: Path, tmp_path: Path) -> None:
    """A loop of one's own leaves rounds and class names, and no manifest."""
    run, names = tmp_path / "run", RunFolder.open(exported_run).read_manifest().class_names
    shutil.copytree(exported_run, run)
    for name in ("DONE", "manifest.json", "data/splits.jsonl", "evaluation.json"):
        (run / name).unlink()
    RunFolder(run).write_json(RunFolder(run).classes_file, {"class_names": list(names)})
    with pytest.raises(RunFolderError, match="--only kept"):
        export_data(run, "csv", tmp_path / "out")
    found = export_data(run, "csv", tmp_path / "out", only="kept")
    assert found.synthetic == len(kept_ids(exported_run))
    assert "tiny-random-sd" in (found.path / "README.md").read_text(encoding="utf-8")


def test_damage_is_named_and_nothing_is_written(exported_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(exported_run, tmp_path / "run"))
    first = sorted((run / "pool").rglob("*.png"))[0]
    first.write_bytes(first.read_bytes()[:-30])
    with pytest.raises(RunFolderError, match=first.name):
        export_data(run, "csv", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_stopped_anywhere_it_leaves_nothing(exported_run: Path, tmp_path: Path) -> None:
    counting = Interrupting()
    export_data(exported_run, "coco", tmp_path / "whole", progress=counting)
    for at in {2, counting.events // 2, counting.events - 5, counting.events}:
        with pytest.raises(KeyboardInterrupt):
            export_data(exported_run, "coco", tmp_path / "out", progress=Interrupting(at))
        assert [path.name for path in tmp_path.iterdir()] == ["whole"]


def test_wrong_names_and_nothing_to_export(exported_run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--to parket: did you mean parquet"):
        export_data(exported_run, "parket", tmp_path / "out")
    with pytest.raises(ConfigError, match="the only choice is kept"):
        export_data(exported_run, "csv", tmp_path / "out", only="real")
    with pytest.raises(RunFolderError, match="is not a run folder"):
        export_data(tmp_path, "csv", tmp_path / "out")
    baseline = Path(shutil.copytree(exported_run, tmp_path / "none"))
    shutil.rmtree(baseline / "rounds")
    with pytest.raises(DataError, match="kept no synthetic images"):
        export_data(baseline, "csv", tmp_path / "out", only="kept")


def test_export_json_has_the_hash_of_every_file(exported_run: Path, tmp_path: Path) -> None:
    import hashlib

    out = export_data(exported_run, "csv", tmp_path / "out", only="kept").path
    listed = json.loads((out / "export.json").read_text(encoding="utf-8"))
    assert (listed["what"], listed["format"], listed["only"]) == ("data", "csv", "kept")
    there = {
        path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in out.rglob("*")
        if path.is_file() and path != out / "export.json"
    }
    assert listed["sha256"] == there
