"""Pipeline, scheduler, LoRA and image size of a generator, and what is refused."""

from __future__ import annotations

import json
import pickle
import shutil
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from gendataagent.config import AUTO
from gendataagent.core.errors import ConfigError, ModelError
from gendataagent.core.hub import content_hash
from gendataagent.generation.diffusion import DiffusionFactory, mirrors
from gendataagent.generation.diffusion.loading import move_to_device
from gendataagent.generation.diffusion.lora import local_lora, lora_revision
from gendataagent.generation.diffusion.schedulers import choose_scheduler
from gendataagent.generation.diffusion.signature import CallSignature
from tests.generation.conformance import pixels, render_request
from tests.tiny_models import save_tiny_lora, save_tiny_sd3, save_tiny_sdxl

REQUESTS = [render_request(number) for number in range(3)]
MIRROR = mirrors.STABLE_DIFFUSION_15_NAMES[1]


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_lora(tmp_path_factory.mktemp("lora"))


def scheduler(name: str, **settings: Any) -> Any:
    return getattr(diffusers, name)(**settings)


@pytest.mark.parametrize(
    ("own", "chosen"),
    [
        (scheduler("PNDMScheduler", steps_offset=1), "UniPCMultistepScheduler"),
        (scheduler("DDIMScheduler", timestep_spacing="trailing"), "UniPCMultistepScheduler"),
        (scheduler("EulerDiscreteScheduler"), "UniPCMultistepScheduler"),
        (scheduler("UniPCMultistepScheduler"), "UniPCMultistepScheduler"),
        (scheduler("LCMScheduler"), "LCMScheduler"),
        (scheduler("TCDScheduler"), "TCDScheduler"),
        (scheduler("FlowMatchEulerDiscreteScheduler"), "FlowMatchEulerDiscreteScheduler"),
        (
            scheduler("EulerAncestralDiscreteScheduler", timestep_spacing="trailing"),
            "EulerAncestralDiscreteScheduler",
        ),
        (
            scheduler(
                "DPMSolverMultistepScheduler", use_flow_sigmas=True,
                prediction_type="flow_prediction",
            ),
            "DPMSolverMultistepScheduler",
        ),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
)  # fmt: skip
def test_auto_keeps_the_scheduler_a_model_was_distilled_for(own: Any, chosen: str) -> None:
    assert type(choose_scheduler(AUTO, own)).__name__ == chosen


def test_a_scheduler_inherits_the_noise_schedule_and_takes_the_spacing_named() -> None:
    own = scheduler("PNDMScheduler", beta_start=0.002, beta_schedule="scaled_linear")
    plain = choose_scheduler("DDIMScheduler", own)
    assert (plain.config.beta_start, plain.config.timestep_spacing) == (0.002, "leading")
    assert choose_scheduler("DDIMScheduler:trailing", own).config.timestep_spacing == "trailing"
    assert type(choose_scheduler("LCMScheduler", own)).__name__ == "LCMScheduler"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("DDIMScheduler:sideways", "no timestep spacing 'sideways'"),
        ("FlowMatchEulerDiscreteScheduler", "cannot replace this model's PNDMScheduler"),
        ("VQDiffusionScheduler", "cannot start from an image"),
        ("DPMSolverSDEScheduler", "needs a package that is not installed .*torchsde"),
    ],
)
def test_an_unsuitable_scheduler_is_refused(name: str, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        choose_scheduler(name, scheduler("PNDMScheduler"))


def test_a_flow_matching_model_takes_no_other_scheduler(tmp_path: Path) -> None:
    folder = save_tiny_sd3(tmp_path / "sd3")
    with pytest.raises(ModelError, match="only one of the two is for flow matching; use auto"):
        DiffusionFactory(model=str(folder), scheduler="DDIMScheduler")()
    generator = DiffusionFactory(model=str(folder))()
    assert generator.size_px == 32


def test_a_lora_acts_in_proportion_to_its_scale(tiny_pipeline_folder: Path, lora: Path) -> None:
    def images(name: str, scale: float) -> np.ndarray[Any, Any]:
        factory = DiffusionFactory(model=str(tiny_pipeline_folder), lora=name, lora_scale=scale)
        made = pixels(factory().render(REQUESTS))
        return np.frombuffer(b"".join(one for one in made if one), dtype=np.uint8).astype(int)

    without, none, half, whole = (
        images("", 1.0), images(str(lora), 0.0), images(str(lora), 0.5), images(str(lora), 1.0)
    )  # fmt: skip
    assert (none == without).all()
    assert 0 < np.abs(half - without).mean() < np.abs(whole - without).mean()
    assert (images(str(lora.parent), 1.0) == whole).all()  # by its folder


def test_merged_weights_are_w_plus_scale_times_b_a(tiny_pipeline_folder: Path, lora: Path) -> None:
    from safetensors.torch import load_file

    layer = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k"
    weights = load_file(lora)
    a, b = (weights[f"unet.{layer}.lora.{half}.weight"] for half in ("down", "up"))
    plain, merged = (
        DiffusionFactory(
            model=str(tiny_pipeline_folder), lora=name, lora_scale=0.25, dtype="float32"
        )()
        for name in ("", str(lora))
    )
    before, after = (g._pipeline.unet.get_submodule(layer).weight.detach() for g in (plain, merged))
    torch.testing.assert_close(after, before + 0.25 * b @ a)
    assert not any("lora" in name for name, _ in merged._pipeline.unet.named_parameters())


def test_a_lora_for_another_base_model_is_refused(
    tiny_pipeline_folder: Path, lora: Path, tmp_path: Path
) -> None:
    wide = save_tiny_lora(tmp_path / "wide", width=24)
    with pytest.raises(ModelError, match=r"does not fit this generator.*size mismatch"):
        DiffusionFactory(model=str(tiny_pipeline_folder), lora=str(wide))()
    sd3, sdxl = save_tiny_sd3(tmp_path / "sd3"), save_tiny_sdxl(tmp_path / "sdxl")
    with pytest.raises(ModelError, match="0 of its 64 matrices match a layer"):
        DiffusionFactory(model=str(sd3), lora=str(lora))()
    with pytest.raises(ModelError, match="name a LoRA made for it"):
        DiffusionFactory(model=str(sdxl), lora=str(lora))()


def test_an_invalid_lora_is_named(tiny_pipeline_folder: Path, lora: Path, tmp_path: Path) -> None:
    def refusal(name: Path) -> str:
        with pytest.raises(ModelError) as caught:
            DiffusionFactory(model=str(tiny_pipeline_folder), lora=str(name))()
        return str(caught.value)

    assert "there is no file or folder" in refusal(tmp_path / "nowhere.safetensors")
    assert "it holds none" in refusal(tmp_path)
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(lora.read_bytes()[:-7])
    assert "bytes; download it again" in refusal(cut)
    shutil.copy(lora, tmp_path / "other.safetensors")
    assert "several: cut.safetensors, other.safetensors" in refusal(tmp_path)
    pickled = tmp_path / "lora.bin"
    torch.save({}, pickled)
    assert "pickled weights can run code" in refusal(pickled)
    model = tiny_pipeline_folder / "unet" / "diffusion_pytorch_model.safetensors"
    assert "does not fit this generator" in refusal(model)


def test_hub_names_of_a_lora_are_distinguished_from_paths(lora: Path) -> None:
    assert local_lora("owner/name") is None
    assert local_lora("owner/name/Hyper-SD15-12steps-CFG-lora.safetensors") is None
    assert lora_revision("owner/name") == "owner/name"  # while it is not on this machine
    with pytest.raises(ModelError, match="no file or folder plain"):
        local_lora("plain")
    assert lora_revision(str(lora)) == lora_revision(str(lora.parent)) != ""


def test_a_lora_and_its_scale_are_part_of_the_revision(
    tiny_pipeline_folder: Path, lora: Path
) -> None:
    def revision(name: str, scale: float) -> str:
        factory = DiffusionFactory(model=str(tiny_pipeline_folder), lora=name, lora_scale=scale)
        return factory.describe().revision

    base = content_hash(tiny_pipeline_folder)
    assert revision("", 0.5) == base
    assert revision(str(lora), 0.5) == f"{base}+lora:{lora_revision(str(lora))}@0.5"
    assert revision(str(lora), 1.0) == f"{base}+lora:{lora_revision(str(lora))}@1"


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def put_in_cache(hub_cache: Path, name: str, folder: Path, commit: str) -> None:
    """Put a model into the hub's cache like a download."""
    home = hub_cache / f"models--{name.replace('/', '--')}"
    shutil.copytree(folder, home / "snapshots" / commit)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(commit, encoding="utf-8")


def test_sd_15_is_pinned_and_found_under_its_mirrors(
    hub_cache: Path, tiny_pipeline_folder: Path
) -> None:
    factory = DiffusionFactory(model=mirrors.STABLE_DIFFUSION_15)
    commit = mirrors.STABLE_DIFFUSION_15_COMMIT
    assert (factory.describe().name, factory.describe().revision) == (factory.model, commit)
    with pytest.raises(ModelError, match=f"it is not on this machine at revision '{commit}'"):
        factory()
    put_in_cache(hub_cache, MIRROR, tiny_pipeline_folder, commit)
    with pytest.warns(UserWarning, match=f"{MIRROR}, which holds the same model, was loaded"):
        generator = factory()
    assert generator.description == factory.describe()
    assert (generator.description.name, generator.description.revision) == (MIRROR, commit)
    assert len(generator.render(REQUESTS)) == 3
    put_in_cache(hub_cache, factory.model, tiny_pipeline_folder, commit)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*was loaded instead")
        assert factory().description.name == factory.model


def test_a_revision_of_the_users_own_has_no_mirrors(
    hub_cache: Path, tiny_pipeline_folder: Path
) -> None:
    put_in_cache(hub_cache, MIRROR, tiny_pipeline_folder, mirrors.STABLE_DIFFUSION_15_COMMIT)
    factory = DiffusionFactory(model=mirrors.STABLE_DIFFUSION_15, revision="main")
    assert factory.describe().name == mirrors.STABLE_DIFFUSION_15
    with pytest.raises(ModelError, match="at revision 'main'"):
        factory()


def test_the_commit_of_a_cached_hub_model_is_its_revision(
    hub_cache: Path, tiny_pipeline_folder: Path, lora: Path
) -> None:
    put_in_cache(hub_cache, "some/model", tiny_pipeline_folder, "ab" * 20)
    put_in_cache(hub_cache, "some/lora", lora.parent, "cd" * 20)
    factory = DiffusionFactory(model="some/model", lora="some/lora")
    expected = f"{'ab' * 20}+lora:{lora_revision(str(lora))}@0.5"
    assert factory.describe().revision == expected
    generator = pickle.loads(pickle.dumps(factory))()
    assert generator.description == factory.describe()
    local = DiffusionFactory(model=str(tiny_pipeline_folder), lora=str(lora))()
    assert pixels(generator.render(REQUESTS)) == pixels(local.render(REQUESTS))


def test_a_missing_file_variant_is_named(tiny_pipeline_folder: Path) -> None:
    with pytest.raises(ModelError, match="variant"):
        DiffusionFactory(model=str(tiny_pipeline_folder), variant="fp16")()


def test_a_model_too_large_for_the_device_raises() -> None:
    def no_room(device: torch.device) -> None:
        raise torch.OutOfMemoryError(f"no room on {device}")

    with pytest.raises(ModelError, match="does not fit into the memory of cuda:3"):
        move_to_device(
            SimpleNamespace(to=no_room), DiffusionFactory(model="big/model", device="cuda:3")
        )


def test_a_pipeline_that_takes_no_strength_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="FluxKontextPipeline, which takes no strength; name an"):
        CallSignature.of(
            diffusers.FluxKontextPipeline.__new__(diffusers.FluxKontextPipeline), "x", 0
        )
    with pytest.raises(ModelError, match="no UNet or transformer that works on the latents of a"):
        CallSignature.of(diffusers.IFImg2ImgPipeline.__new__(diffusers.IFImg2ImgPipeline), "x", 0)


def test_sizes_are_the_models_own_and_fit_its_patches(tmp_path: Path) -> None:
    folder = save_tiny_sdxl(tmp_path / "model")
    path = folder / "unet" / "config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**settings, "sample_size": [10, 8]}), encoding="utf-8")
    assert DiffusionFactory(model=str(folder))().size_px == 40
    with pytest.raises(ConfigError, match=r"must be a multiple of 4 .*, got 30"):
        DiffusionFactory(model=str(folder), size_px=30)()
