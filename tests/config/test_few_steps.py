"""Models and LoRAs for few steps are recognised, and decide what the settings leave at auto."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from gendataagent.config import AUTO, RunConfig
from gendataagent.config.few_steps import recognise_lora, recognise_model
from gendataagent.core.errors import ConfigError

EULER, DDIM = "EulerDiscreteScheduler:trailing", "DDIMScheduler:trailing"
LORAS = {
    "latent-consistency/lcm-lora-sdv1-5": ("LCM", "LCMScheduler", 4, 1.0),
    "latent-consistency/lcm-lora-sdxl": ("LCM", "LCMScheduler", 4, 1.0),
    "h1t/TCD-SDXL-LoRA": ("TCD", "TCDScheduler", 4, 0.0),
    "ByteDance/Hyper-SD/Hyper-SD15-4steps-lora.safetensors": ("Hyper-SD", DDIM, 4, 0.0),
    "ByteDance/Hyper-SD/Hyper-SD15-2steps-lora.safetensors": ("Hyper-SD", DDIM, 2, 0.0),
    "ByteDance/Hyper-SD/Hyper-SDXL-8steps-CFG-lora.safetensors": ("Hyper-SD", DDIM, 8, 5.0),
    "ByteDance/Hyper-SD/Hyper-SD15-1step-lora.safetensors": ("Hyper-SD", "TCDScheduler", 4, 0.0),
    "ByteDance/SDXL-Lightning/sdxl_lightning_8step_lora.safetensors": (
        "SDXL-Lightning", EULER, 8, 0.0,
    ),
    "someone/sd_turbo_lora": ("Turbo", EULER, 4, 0.0),
    "someone/SDXL-Turbo-LoRA": ("Turbo", EULER, 4, 0.0),
}  # fmt: skip
OTHERS = (
    "", "someone/lightning-strikes", "someone/hyper-realism", "someone/turbo-cars", "someone/lcmap",
    "ByteDance/Hyper-SD/Hyper-SD3-4steps-CFG-lora.safetensors",
    "ByteDance/Hyper-SD/Hyper-FLUX.1-dev-8steps-lora.safetensors",
)  # fmt: skip


def config(**generation: Any) -> RunConfig:
    return RunConfig.from_dict({"generation": generation})


def save_lora(path: Path, **metadata: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({"x": np.zeros(1, np.float32)}, path, metadata=metadata)
    return path


@pytest.mark.parametrize("name", LORAS)
def test_a_lora_is_recognised_by_its_name(name: str) -> None:
    found = recognise_lora(name)
    assert found is not None
    assert (found.family, found.scheduler, found.steps, found.guidance_scale) == LORAS[name]


@pytest.mark.parametrize("name", OTHERS)
def test_other_names_are_not_recognised(name: str) -> None:
    assert recognise_lora(name) is None


def test_a_file_is_recognised_by_its_folder_and_by_its_metadata(tmp_path: Path) -> None:
    plain = save_lora(tmp_path / "lcm-lora-sdv1-5" / "pytorch_lora_weights.safetensors")
    told = save_lora(
        tmp_path / "weights" / "a.safetensors", ss_output_name="Hyper-SD15-8steps-lora"
    )
    silent = save_lora(tmp_path / "style" / "b.safetensors", ss_output_name="ukiyo-e")
    found = [recognise_lora(str(p)) for p in (plain, plain.parent, told, told.parent, silent)]
    assert [f and (f.family, f.steps) for f in found] == [
        ("LCM", 4), ("LCM", 4), ("Hyper-SD", 8), ("Hyper-SD", 8), None,
    ]  # fmt: skip


def test_weights_in_the_cache_of_the_hub_are_recognised_by_their_repository(tmp_path: Path) -> None:
    """A snapshot is a folder of links to files that are named by their hash."""
    repository = tmp_path / "models--latent-consistency--lcm-lora-sdv1-5"
    blob = save_lora(repository / "blobs" / "0a1b2c")
    snapshot = repository / "snapshots" / "abcdef"
    snapshot.mkdir(parents=True)
    link = snapshot / "pytorch_lora_weights.safetensors"
    link.symlink_to(blob)
    for name in (link, snapshot):
        found = recognise_lora(str(name))
        assert found is not None
        assert found.family == "LCM"
    model = tmp_path / "models--stabilityai--sd-turbo" / "snapshots" / "abcdef"
    model.mkdir(parents=True)
    assert recognise_model(str(model)) is not None


def test_a_folder_of_others_is_no_sign(tmp_path: Path) -> None:
    style = save_lora(tmp_path / "lcm" / "styles" / "ukiyo-e.safetensors")
    save_lora(style.with_name("woodcut.safetensors"))
    assert recognise_lora(str(style)) is None
    assert recognise_lora(str(style.parent)) is None


@pytest.mark.parametrize(
    ("scheduler", "recognised"),
    [
        ('{"_class_name": "EulerDiscreteScheduler", "timestep_spacing": "trailing"}', True),
        ('{"_class_name": "EulerDiscreteScheduler", "timestep_spacing": "leading"}', False),
        ('{"_class_name": "DDIMScheduler", "timestep_spacing": "trailing"}', False),
        ("[1]", False), ("{", False),
    ],
)  # fmt: skip
def test_a_folder_is_recognised_by_its_scheduler(
    scheduler: str, recognised: bool, tmp_path: Path
) -> None:
    (tmp_path / "scheduler").mkdir()
    (tmp_path / "scheduler" / "scheduler_config.json").write_text(scheduler)
    assert (recognise_model(str(tmp_path)) is not None) == recognised


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("stabilityai/sd-turbo", "Turbo"), ("/models/sdxl-turbo", "Turbo"), ("tiny-sd", None),
        ("stable-diffusion-v1-5/stable-diffusion-v1-5", None), ("someone/my-sd-turbo-cars", None),
    ],
)  # fmt: skip
def test_a_model_is_recognised_by_the_last_part_of_its_name(name: str, family: str | None) -> None:
    found = recognise_model(name)
    assert (found and found.family) == family


def test_what_is_left_at_auto_is_decided_and_what_is_set_stays() -> None:
    plain = config().generation.decided()
    assert (plain.steps, plain.guidance, plain.scheduler) == (30, 7.5, AUTO)
    lora = "ByteDance/Hyper-SD/Hyper-SD15-2steps-lora.safetensors"
    few = config(few_step_lora=lora).generation.decided()
    assert (few.num_inference_steps, few.guidance_scale, few.scheduler) == (2, 0.0, DDIM)
    own = {"num_inference_steps": 8, "guidance_scale": 1.5, "scheduler": "TCDScheduler"}
    kept = config(few_step_lora=lora, **own).generation.decided()
    assert {key: getattr(kept, key) for key in own} == own
    turbo = config(generator="stabilityai/sd-turbo").generation.decided()
    assert (turbo.num_inference_steps, turbo.guidance_scale, turbo.scheduler) == (4, 0.0, AUTO)
    assert few.without_few_steps().decided() == plain
    assert few.decided() == few


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (
            {"few_step_lora": "someone/style"},
            r"few_step_lora: nothing in the name .* of 'someone/style' .*; set generation.scheduler"
            r", generation.num_inference_steps, generation.guidance_scale to",
        ),
        (
            {"few_step_lora": "someone/style", "guidance_scale": 0, "num_inference_steps": 4},
            r"set generation.scheduler to what",
        ),
        ({"lora": "latent-consistency/lcm-lora-sdv1-5"}, r"name it as generation.few_step_lora"),
        (
            {"few_step_lora": "ByteDance/SDXL-Lightning/sdxl_lightning_2step_lora.safetensors",
             "strength": 0.4},
            r"at least 1 executed step, got 2 \* 0.4; raise one",
        ),
        ({"guidance_scale": "none"}, r"guidance_scale must be a number or auto"),
        ({"num_inference_steps": 2.5}, r"num_inference_steps must be an integer or auto"),
    ],
)  # fmt: skip
def test_what_cannot_be_decided_is_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        config(**settings)


def test_an_unknown_lora_works_once_all_three_are_set() -> None:
    own = {"scheduler": "LCMScheduler", "num_inference_steps": 6, "guidance_scale": 1.0}
    assert config(few_step_lora="someone/style", **own).generation.steps == 6
    assert config(lora="latent-consistency/lcm-lora-sdv1-5", **own).generation.guidance == 1.0
