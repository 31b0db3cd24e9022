"""Whole runs with words of the classes and with a LoRA for each class, stopped and resumed."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gendataagent.config import RunConfig
from gendataagent.config.strategies import STRATEGIES
from gendataagent.core.errors import ConfigError, ModelError, RunFolderError
from gendataagent.core.run_folder import RunFolder
from gendataagent.data import load_data
from gendataagent.generation.adaptation import adapt
from gendataagent.generation.diffusion.class_tokens import token_names
from gendataagent.report import write_report
from gendataagent.runs.preflight import check_models
from gendataagent.runs.run import resume, run
from tests.runs.test_peers_run import PHOTOGRAPHS, candidates_of, prepared, stopped_and_resumed
from tests.runs.test_resume import Interrupting, outcome
from tests.tiny_models import save_tiny_controlnet, save_tiny_sd3

pytestmark = pytest.mark.integration

QUICK: dict[str, Any] = {
    "token_steps": 2, "token_learning_rate": 0.1, "learning_rate": 0.1, "epochs": 1, "rank": 2,
    "measure_images": 0, "sample_every_epochs": 0, "checkpoint_every_steps": 2,
}  # fmt: skip


def quick(config: RunConfig, name: str, **generation: Any) -> RunConfig:
    """Return the settings of a strategy with a short adaptation."""
    config = prepared(config, name)
    return replace(
        config,
        adaptation=replace(config.adaptation, **QUICK),
        generation=replace(config.generation, **generation),
    )


def words_of(path: Path) -> dict[str, str]:
    return token_names(RunFolder.open(path).read_manifest().class_names)


def test_the_settings_are_those_of_the_scripts(small_config: RunConfig) -> None:
    tokens = prepared(small_config, "da-fusion-tokens").adaptation
    assert (tokens.enabled, tokens.kind, tokens.batch_size) == (True, "tokens", 4)
    assert (tokens.token_steps, tokens.token_learning_rate, tokens.token_vectors) == (1000, 2e-3, 1)
    both = prepared(small_config, "diff-mix-tokens")
    assert (both.adaptation.kind, both.adaptation.rank) == ("lora+tokens", 10)
    assert both.adaptation.learning_rate == both.adaptation.token_learning_rate == 5e-5
    assert both.generation.prompt_class == "other"
    each = prepared(small_config, "datadream-cls").adaptation
    assert (each.kind, each.per_class, each.rank, each.epochs) == ("lora", True, 16, 200)
    for name in ("da-fusion", "diff-mix"):
        assert "adaptation" not in STRATEGIES[name].settings


@pytest.mark.slow
def test_da_fusion_with_tokens(small_config: RunConfig, tmp_path: Path) -> None:
    cache = str(tmp_path / "cache")
    config = quick(small_config, "da-fusion-tokens", image_cache=cache)
    progress = Interrupting()
    run(config, tmp_path / "run", progress=progress)
    made = candidates_of(tmp_path / "run")
    assert len(made) == PHOTOGRAPHS
    words = words_of(tmp_path / "run")
    assert {c.prompt for c in made} == {f"A photo of {words[c.class_name]}" for c in made}
    described = RunFolder.open(tmp_path / "run").read_manifest().generator
    assert described is not None
    assert "+class_tokens:" in described.revision
    page = write_report(tmp_path / "run").read_text(encoding="utf-8")
    assert f"A photo of &lt;{words[made[0].class_name].strip('<>')}&gt;" in page
    config = replace(config, generation=replace(config.generation, image_cache=""))
    again = stopped_and_resumed(config, tmp_path / "again", progress.events)
    assert outcome(again) == outcome(tmp_path / "run")


@pytest.mark.slow
def test_diff_mix_with_tokens_in_worker_processes(small_config: RunConfig, tmp_path: Path) -> None:
    config = quick(small_config, "diff-mix-tokens")
    run(config, tmp_path / "run")
    words = words_of(tmp_path / "run")
    for c in candidates_of(tmp_path / "run"):
        assert c.class_name != c.source_class
        assert c.prompt == f"A photo of {words[c.class_name]}"  # that of the other class
    workers = quick(small_config, "diff-mix-tokens", executor="process", workers=2, chunk_size=5)
    run(workers, tmp_path / "workers")
    assert outcome(tmp_path / "workers")["images"] == outcome(tmp_path / "run")["images"]


@pytest.mark.slow
def test_datadream_with_a_lora_for_each_class(small_config: RunConfig, tmp_path: Path) -> None:
    cache = str(tmp_path / "cache")
    config = quick(small_config, "datadream-cls", image_cache=cache)
    progress = Interrupting()
    run(config, tmp_path / "run", progress=progress)
    classes = tmp_path / "run" / "adaptation" / "classes"
    assert len(list(classes.glob("*/pytorch_lora_weights.safetensors"))) == 3
    other = quick(small_config, "datadream-cls", chunk_size=5)
    run(other, tmp_path / "other")
    assert outcome(tmp_path / "other")["images"] == outcome(tmp_path / "run")["images"]
    config = replace(config, generation=replace(config.generation, image_cache=""))
    again = stopped_and_resumed(config, tmp_path / "again", progress.events)
    assert outcome(again) == outcome(tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("how", [{"kind": "lora+tokens"}, {"per_class": True}])
def test_edges_scenes_and_feedback_go_with_it(
    how: dict[str, Any], small_config: RunConfig, tmp_path: Path
) -> None:
    config = quick(
        small_config, "feedback-guided", feedback_scale=0.1, start="image", condition="edges",
        controlnet=str(save_tiny_controlnet(tmp_path / "control")),
    )  # fmt: skip
    config = replace(
        config,
        adaptation=replace(config.adaptation, enabled=True, **how),
        prompting=replace(config.prompting, rewriter="scenes"),
    )
    run(config, tmp_path / "run")
    made = candidates_of(tmp_path / "run")
    words = words_of(tmp_path / "run") if "kind" in how else {}
    for c in made:
        assert (
            c.prompt == f"A photo of {words.get(c.class_name, c.class_name)}, which is {c.caption}"
        )
    assert {c.feedback for c in made} == {"entropy"}
    described = RunFolder.open(tmp_path / "run").read_manifest().generator
    assert described is not None
    assert "+controlnet:" in described.revision
    assert ("+class_loras:" if "per_class" in how else "+class_tokens:") in described.revision


@pytest.mark.slow
def test_a_run_with_words_made_before_needs_the_same_file(
    small_config: RunConfig, tmp_path: Path
) -> None:
    config = quick(small_config, "da-fusion-tokens")
    photos = load_data(config.data, seed=config.seed).train
    adapt(config, photos, tmp_path / "words")
    named = config.with_adaptation(str(tmp_path / "words"))
    progress = Interrupting()
    run(named, tmp_path / "whole", progress=progress)
    with pytest.raises(KeyboardInterrupt):
        run(named, tmp_path / "run", progress=Interrupting(progress.events // 2))
    path = tmp_path / "words" / "class_tokens.safetensors"
    kept = path.read_bytes()
    path.write_bytes(kept[:-1] + b"\0")
    with pytest.raises(RunFolderError, match=r"generation\.class_tokens: .*files have changed"):
        resume(tmp_path / "run")
    path.write_bytes(kept)
    resume(tmp_path / "run")
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")


def test_words_of_other_classes_are_refused_before_training(
    small_config: RunConfig, tmp_path: Path
) -> None:
    photos = load_data(small_config.data, seed=small_config.seed).train
    fewer = photos.subset([i for i, label in enumerate(photos.labels) if label < 2])
    two = type(fewer)(
        class_names=fewer.class_names[:2], ids=fewer.ids, labels=fewer.labels, rows=fewer.rows,
        store=fewer.store, max_pixels=fewer.max_pixels, bits=fewer.bits, contents=fewer.contents,
    )  # fmt: skip
    config = quick(small_config, "da-fusion-tokens")
    adapt(config, two, tmp_path / "words")
    with pytest.raises(ConfigError, match="has no word for 1 class of the data"):
        run(config.with_adaptation(str(tmp_path / "words")), tmp_path / "run")
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
    shutil.rmtree(tmp_path / "words")
    with pytest.raises(ModelError, match=r"generation\.class_tokens: there is no file"):
        check_models(config.with_adaptation(str(tmp_path / "words")))


def test_an_adaptation_that_cannot_be_is_refused_by_the_checks(
    small_config: RunConfig, tmp_path: Path
) -> None:
    sd3 = save_tiny_sd3(tmp_path / "sd3")
    for kind in ("tokens", "lora"):
        config = quick(small_config, "da-fusion-tokens", generator=str(sd3))
        config = replace(config, adaptation=replace(config.adaptation, kind=kind))
        with pytest.raises(ModelError, match=r"cannot (learn words|adapt)"):
            check_models(config)
