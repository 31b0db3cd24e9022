"""The mechanisms of other papers in complete runs, stopped and resumed to the bit."""

from __future__ import annotations

import csv
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from gendataagent.agent.pool import Pool
from gendataagent.agent.provenance import read_provenance
from gendataagent.config import RunConfig
from gendataagent.config.strategies import apply
from gendataagent.core import files
from gendataagent.core.errors import RunFolderError
from gendataagent.core.hub import content_hash
from gendataagent.core.record_table import RecordTable
from gendataagent.core.records import Candidate, Scored
from gendataagent.core.run_folder import SELECTED_FILE, RunFolder
from gendataagent.data.bundled import cifar10_parquet
from gendataagent.generation.scenes import PLACES
from gendataagent.report import write_report
from gendataagent.report.markup import percent
from gendataagent.runs.exporting.datasets import export_data
from gendataagent.runs.run import resume, run, run_until
from tests.runs.test_resume import Interrupting, outcome
from tests.tiny_models import save_tiny_clip, save_tiny_controlnet

pytestmark = pytest.mark.integration

PHOTOGRAPHS = 24


def prepared(config: RunConfig, name: str, epochs: int = 4) -> RunConfig:
    """Return the settings of a strategy, with steps enough for its least strength."""
    config = replace(config, generation=replace(config.generation, num_inference_steps=8))
    return apply(replace(config, training=replace(config.training, epochs=epochs)), name)


def candidates_of(path: Path) -> list[Candidate]:
    return list(Pool(RunFolder.open(path), ("a", "b", "c")).candidates(0))


def metrics_of(path: Path) -> list[dict[str, float]]:
    return files.read_jsonl(path / "metrics.jsonl")


def stopped_and_resumed(config: RunConfig, path: Path, events: int) -> Path:
    """Run, stop at half of the events and resume."""
    with pytest.raises(KeyboardInterrupt):
        run(config, path, progress=Interrupting(events // 2))
    resume(path)
    return path


def test_da_fusion(small_config: RunConfig, tmp_path: Path) -> None:
    config = prepared(small_config, "da-fusion")
    training = replace(config.training, steps_per_epoch=0)
    config = replace(config, training=training)
    run(config, tmp_path / "run")
    made = candidates_of(tmp_path / "run")
    assert Counter(c.source_id for c in made).most_common(1)[0][1] == 1
    assert len(made) == PHOTOGRAPHS
    assert {c.strength for c in made} == {0.25, 0.5, 0.75, 1.0}
    assert {c.prompt for c in made} == {f"A photo of {c.class_name}" for c in made}
    assert all(c.kept for c in made)
    for row in metrics_of(tmp_path / "run"):
        assert (row["real_images"], row["synthetic_images"]) == (PHOTOGRAPHS, PHOTOGRAPHS)
        assert row["optimizer_steps"] == PHOTOGRAPHS // config.training.batch_size
    other = replace(config, generation=replace(config.generation, chunk_size=11))
    run(other, tmp_path / "other")
    assert outcome(tmp_path / "other")["images"] == outcome(tmp_path / "run")["images"]


def test_real_guidance(small_config: RunConfig, tmp_path: Path) -> None:
    clip = save_tiny_clip(tmp_path / "clip")
    config = prepared(small_config, "real-guidance")
    config = replace(config, filter=replace(config.filter, text_model=str(clip)))
    progress = Interrupting()
    run(config, tmp_path / "run", progress=progress)
    folder = RunFolder.open(tmp_path / "run")
    made = candidates_of(folder.path)
    assert {c.strength for c in made} <= {0.15, 0.2, 0.35, 0.4, 0.5}
    assert Counter(c.rejected_by for c in made) == {None: 18, "text-agreement": 6}
    model = folder.read_manifest().text_model
    assert model is not None
    assert (model.name, model.revision) == ("clip", content_hash(clip))
    page = write_report(folder.path).read_text(encoding="utf-8")
    assert "dropped by the text-agreement filter" in page
    again = stopped_and_resumed(config, tmp_path / "again", progress.events)
    assert outcome(again) == outcome(folder.path)
    begun = tmp_path / "begun"
    with pytest.raises(KeyboardInterrupt):
        run(config, begun, progress=Interrupting(progress.events // 2))
    save_tiny_clip(clip, seed=1)
    with pytest.raises(RunFolderError, match=r"filter\.text_model: the model clip is not the one"):
        resume(begun)


@pytest.mark.slow
def test_retrieval(
    small_config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copies of held-out images in the folder are found and rejected."""
    monkeypatch.setenv("GENDATAAGENT_CACHE", str(tmp_path / "cache"))
    own, photos = tmp_path / "own", Path(small_config.data.path)
    for number, path in enumerate(sorted(photos.glob("*/*/*.png"))):
        (own / "all").mkdir(parents=True, exist_ok=True)
        shutil.copy(path, own / "all" / f"{number}.png")
    rows = pq.read_table(cifar10_parquet("test")).slice(1000, 30).to_pylist()
    for number, row in enumerate(rows):
        (own / f"other {number}.png").write_bytes(row["image"]["bytes"])
    config = prepared(small_config, "retrieval")
    settings = replace(
        config.generation,
        retrieval_folder=str(own),
        retrieval_model=str(save_tiny_clip(tmp_path / "clip")),
    )
    prompting = replace(config.prompting, rewrites=4)
    config = replace(config, generation=settings, prompting=prompting)
    progress = Interrupting()
    run(config, tmp_path / "run", progress=progress)
    made = candidates_of(tmp_path / "run")
    pool = Pool(RunFolder.open(tmp_path / "run"), ("a", "b", "c"))
    reasons = Counter(c.rejected_by for c in made)
    assert len(made) == 4 * PHOTOGRAPHS
    assert reasons[None]
    assert reasons["repeats-test-image"] + reasons["repeats-validation-image"] > 0
    for c in made:
        with Image.open(pool.image_path(c)) as image:
            about = read_provenance(image)
        assert (about["synthetic"], about["generator"].split("@")[0]) == ("false", "retrieval")
        assert (own / about["original"]).is_file()
    by_source: dict[str, set[bytes]] = {}
    for c in made:
        by_source.setdefault(c.source_id, set()).add(pool.image(c).tobytes())
    assert {len(images) for images in by_source.values()} == {4}
    again = stopped_and_resumed(config, tmp_path / "again", progress.events)
    assert outcome(again) == outcome(tmp_path / "run")
    begun = tmp_path / "begun"
    run_until(config, begun, 0)
    first, second = own / "other 0.png", own / "other 1.png"
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)
    with pytest.raises(RunFolderError, match=r"generation\.retrieval_folder: .* is not the one"):
        resume(begun)


def test_diff_mix(small_config: RunConfig, tmp_path: Path) -> None:
    config = prepared(small_config, "diff-mix")
    progress = Interrupting()
    run(config, tmp_path / "run", progress=progress)
    made = candidates_of(tmp_path / "run")
    names = RunFolder.open(tmp_path / "run").read_manifest().class_names
    for c in made:
        assert c.source_class is not None
        assert c.source_id.split("/")[1] == c.source_class != c.class_name == names[c.label]
        assert c.prompt == f"A photo of {c.class_name}"
        assert c.label_share == c.strength**0.5
    assert {c.strength for c in made} == {0.3, 0.5, 0.7, 0.9}
    again = stopped_and_resumed(config, tmp_path / "again", progress.events)
    assert outcome(again) == outcome(tmp_path / "run")
    page = write_report(tmp_path / "run").read_text(encoding="utf-8")
    assert "The prompt names another class, and the label is shared." in page
    assert f"<b>{percent(made[0].label_share)} " in page
    out = export_data(tmp_path / "run", "csv", tmp_path / "csv").path
    with next(out.glob("*.csv")).open(encoding="utf-8") as stream:
        shared = {row["id"]: row for row in csv.DictReader(stream) if row["source_class"]}
    assert shared.keys() == {c.id for c in made}
    row = shared[made[0].id]
    assert (row["label"], row["source_class"]) == (made[0].class_name, made[0].source_class)
    assert float(row["label_share"]) == made[0].label_share
    assert "by the name of another class" in (out / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_deliberate_practice(small_config: RunConfig, tmp_path: Path) -> None:
    config = prepared(small_config, "deliberate-practice", epochs=8)
    config = replace(config, agent=replace(config.agent, rounds=2))
    progress = Interrupting()
    run(config, tmp_path / "run", progress=progress)
    folder = RunFolder.open(tmp_path / "run")
    rounds = [list(Pool(folder, ("a", "b", "c")).candidates(number)) for number in (0, 1)]
    first, second = ({c.source_id for c in made} for made in rounds)
    assert len(first) == len(second) == PHOTOGRAPHS // 2
    assert not first & second
    for c in [*rounds[0], *rounds[1]]:
        assert (c.start, c.strength, c.prompt) == ("noise", 1.0, f"A photo of {c.class_name}")
        assert c.made_from == ""
    assert {c.feedback for c in rounds[0]} == {None}  # nothing is trained yet
    assert {c.feedback for c in rounds[1]} <= {"entropy", None}
    again = stopped_and_resumed(config, tmp_path / "again", progress.events)
    assert outcome(again) == outcome(tmp_path / "run")


@pytest.mark.slow
def test_feedback_guided(small_config: RunConfig, tmp_path: Path) -> None:
    config = prepared(small_config, "feedback-guided")
    run(config, tmp_path / "run")
    made = candidates_of(tmp_path / "run")
    assert {c.start for c in made} == {"noise"}
    assert len(made) == PHOTOGRAPHS
    assert metrics_of(tmp_path / "run")[0]["synthetic_images"] == 0
    assert metrics_of(tmp_path / "run")[-1]["synthetic_images"] == PHOTOGRAPHS


def test_tada(small_config: RunConfig, tmp_path: Path) -> None:
    config = prepared(small_config, "tada", epochs=8)
    run(config, tmp_path / "run")
    folder = RunFolder.open(tmp_path / "run")
    selected = RecordTable.read(Scored, folder.round(0) / SELECTED_FILE)
    assert Counter(scored.label for scored in selected) == {0: 3, 1: 3, 2: 3}
    assert [row["synthetic_images"] > 0 for row in metrics_of(folder.path)] == [False] + [True] * 7
    assert {c.strength for c in candidates_of(folder.path)} == {0.5}


@pytest.mark.slow
def test_bob(small_config: RunConfig, tmp_path: Path) -> None:
    config = prepared(small_config, "bob")
    quick = replace(config.adaptation, epochs=1, rank=2, measure_images=0, sample_every_epochs=0)
    config = replace(config, adaptation=quick)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    progress = Interrupting()
    run(config, whole, progress=progress)
    made = candidates_of(whole)
    assert len(made) == PHOTOGRAPHS
    captions = {c.source_id: c.source_caption for c in made}
    assert {c.caption for c in made} <= {*captions.values()}
    assert any(c.caption != c.source_caption for c in made)  # of another image
    assert {c.rewritten_by for c in made} == {None}
    trained_with = files.read_jsonl(whole / "adaptation" / "prompts.jsonl")
    assert {row["id"]: row["caption"] for row in trained_with} == captions  # its own context
    stopped_and_resumed(config, stopped, progress.events)
    assert outcome(stopped) == outcome(whole)


@pytest.mark.parametrize("name", ["datadream", "bob"])
def test_an_adapted_generator_starts_from_text(small_config: RunConfig, name: str) -> None:
    config = apply(small_config, name)
    assert config.adaptation.enabled
    assert (config.adaptation.rank, config.adaptation.epochs) == (16, 200)
    assert config.adaptation.snr_gamma == config.adaptation.mmd_weight == 0.0
    assert (config.generation.start, config.generation.lora_scale) == ("noise", 1.0)
    assert config.prompting.captioner == ("none" if name == "datadream" else "auto")


def test_saspa(small_config: RunConfig, tmp_path: Path) -> None:
    control = save_tiny_controlnet(tmp_path / "control")
    config = prepared(small_config, "saspa")
    generation = replace(
        config.generation, controlnet=str(control), image_cache=str(tmp_path / "cache")
    )
    config = replace(config, generation=generation)
    progress = Interrupting()
    run(config, tmp_path / "run", progress=progress)
    folder = RunFolder.open(tmp_path / "run")
    made = candidates_of(folder.path)
    assert len(made) == PHOTOGRAPHS
    assert {(c.start, c.strength, c.rewritten_by) for c in made} == {("edges", 1.0, None)}
    assert {c.made_from for c in made} == {c.source_id for c in made}
    for c in made:
        assert c.prompt == f"A photo of {c.class_name}, which is {c.caption}"
        assert (c.caption or "").split(", ")[0] in PLACES
    described = folder.read_manifest().generator
    assert described is not None
    assert f"+controlnet:{content_hash(control)}@0.75/120-200" in described.revision
    page = write_report(folder.path).read_text(encoding="utf-8")
    assert "a new image from the text, along the edges of the image" in page
    card = export_data(folder.path, "csv", tmp_path / "csv").path / "README.md"
    assert "from text along the edges of a training image" in card.read_text(encoding="utf-8")
    without_cache = replace(config, generation=replace(generation, image_cache=""))
    again = tmp_path / "again"
    with pytest.raises(KeyboardInterrupt):
        run(without_cache, again, progress=Interrupting(progress.events // 2))
    save_tiny_controlnet(control, seed=1)
    with pytest.raises(RunFolderError, match=r"generation\.controlnet: .*its files have changed"):
        resume(again)
    save_tiny_controlnet(control)
    resume(again)
    assert outcome(again) == outcome(folder.path)


def test_edges_with_feedback_and_image_to_image(small_config: RunConfig, tmp_path: Path) -> None:
    control = save_tiny_controlnet(tmp_path / "control")
    config = prepared(small_config, "feedback-guided")
    generation = replace(
        config.generation, controlnet=str(control), condition="edges", start="image",
        feedback_scale=0.1,
    )  # fmt: skip
    run(replace(config, generation=generation), tmp_path / "run")
    made = candidates_of(tmp_path / "run")
    assert {(c.start, c.strength) for c in made} == {("image", 0.75)}
    assert {c.feedback for c in made} == {"entropy"}
