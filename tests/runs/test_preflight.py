"""Checks before a run costs anything."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from gendataagent import RunConfig, run
from gendataagent.core.errors import ConfigError, ModelError
from gendataagent.runs.preflight import check_models, few_step_notes, resolve_auto


def test_an_unknown_selector_or_filter_ends_a_run_from_python_before_it_starts(
    small_config: RunConfig, tmp_path: Path
) -> None:
    wrong = replace(
        small_config,
        selection=replace(small_config.selection, by="hardest"),
        filter=replace(small_config.filter, by="vogue"),
    )
    with pytest.raises(ConfigError) as caught:
        run(wrong, tmp_path / "run")
    assert "selection.by must be one of marginal, uniform" in str(caught.value)
    assert "filter.by must be one of vog" in str(caught.value)
    assert not (tmp_path / "run").exists()


def without(path: Path, ending: str) -> None:
    """Remove the tensors from a safetensors file whose names end so."""
    kept = {name: value for name, value in load_file(path).items() if not name.endswith(ending)}
    save_file(kept, path, metadata={"format": "pt"})


def test_a_lacking_model_ends_a_run_before_anything_is_spent(
    small_config: RunConfig, tiny_pipeline_folder: Path, tmp_path: Path
) -> None:
    """Each model of a run: the generator's text encoder, captioner, rewriter and classifier."""
    from transformers import ResNetConfig, ResNetForImageClassification

    from tests.tiny_captioners import save_tiny_captioner
    from tests.tiny_language import save_tiny_llama

    generator = Path(shutil.copytree(tiny_pipeline_folder, tmp_path / "generator"))
    captioner = save_tiny_captioner(tmp_path / "captioner", "blip")
    rewriter = save_tiny_llama(tmp_path / "rewriter")
    classifier = tmp_path / "classifier"
    ResNetForImageClassification(
        ResNetConfig(embedding_size=8, hidden_sizes=[8], depths=[1], layer_type="basic")
    ).save_pretrained(classifier)
    config = replace(
        small_config,
        generation=replace(small_config.generation, generator=str(generator)),
        prompting=replace(small_config.prompting, captioner=str(captioner), rewriter=str(rewriter)),
        classifier=replace(small_config.classifier, model=str(classifier)),
        agent=replace(small_config.agent, baseline=True),
    )
    check_models(config)
    for setting, path, ending in (
        ("generation.generator", generator / "text_encoder" / "model.safetensors", "fc1.bias"),
        ("prompting.captioner", captioner / "model.safetensors", "LayerNorm.bias"),
        ("prompting.rewriter", rewriter / "model.safetensors", "up_proj.weight"),
        ("classifier.model", classifier / "model.safetensors", "running_var"),
    ):
        whole = path.read_bytes()
        without(path, ending)
        with pytest.raises(ModelError, match=rf"{setting}: in {path}, .*{ending}"):
            run(config, tmp_path / "run")
        assert not (tmp_path / "run").exists()
        path.write_bytes(whole)


def test_a_model_that_cannot_be_checked_is_named(tmp_path: Path) -> None:
    import json

    from gendataagent.core.completeness import collect_unchecked
    from tests.tiny_language import save_tiny_llama

    rewriter = save_tiny_llama(tmp_path / "rewriter")
    config = json.loads((rewriter / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (rewriter / "config.json").write_text(json.dumps(config))
    settings = RunConfig.from_dict({"device": "cpu", "prompting": {"rewriter": str(rewriter)}})
    with collect_unchecked() as unchecked:
        check_models(settings)
        check_models(settings)
    (sentence,) = unchecked
    assert sentence.startswith(
        f"prompting.rewriter: whether {rewriter} is complete is checked when"
    )


def test_a_recognised_model_or_lora_is_said_once_with_what_it_decides() -> None:
    def notes(**generation: Any) -> list[str]:
        config = RunConfig.from_dict({"generation": {"strength": 0.75, **generation}})
        return list(few_step_notes(config.generation))

    assert notes() == []
    hyper = "ByteDance/Hyper-SD/Hyper-SD15-4steps-lora.safetensors"
    (said,) = notes(few_step_lora=hyper)
    assert said.startswith(
        "generation.few_step_lora is recognised as Hyper-SD: DDIMScheduler:trailing, 4 steps of "
        "which 3 are executed at strength 0.75, without guidance."
    )
    (said,) = notes(generator="stabilityai/sd-turbo", guidance_scale=1.0)
    assert said.startswith("generation.generator is recognised as Turbo: the model's own scheduler")
    _, scheduler, guidance = notes(
        few_step_lora=hyper, scheduler="UniPCMultistepScheduler", guidance_scale=7.5
    )
    assert "generation.scheduler is UniPCMultistepScheduler, but Hyper-SD was" in scheduler
    assert "--set generation.guidance_scale=auto" in guidance
    config = RunConfig.from_dict({"generation": {"few_step_lora": hyper}})
    decided, said_when_made = resolve_auto(config, device="cpu", typical_side_px=32)
    assert sum("recognised" in note for note in said_when_made) == 1
    assert decided.generation.scheduler == "DDIMScheduler:trailing"
