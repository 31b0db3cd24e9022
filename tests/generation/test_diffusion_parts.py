"""Every part of a saved pipeline, and of a LoRA, is complete or refused before it is loaded."""

from __future__ import annotations

import json
import re
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from gendataagent.core.errors import ConfigError, ModelError
from gendataagent.generation.diffusion import DiffusionFactory, DiffusionSpec
from gendataagent.generation.tiny.model import model_folder
from tests import tiny_models

FAMILIES = {
    "sd": tiny_models.save_tiny_pipeline,
    "sd with checker": tiny_models.save_tiny_flagging_sd,
    "sdxl": tiny_models.save_tiny_sdxl,
    "lcm": tiny_models.save_tiny_lcm,
    "sd3": tiny_models.save_tiny_sd3,
    "flux": tiny_models.save_tiny_flux,
}


def check(folder: Path, **settings: Any) -> None:
    """Check a generator; a warning that it could not be checked is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        DiffusionSpec(model=str(folder), **settings).check()


def refusal(folder: Path, **settings: Any) -> str:
    with pytest.raises(ModelError) as caught:
        check(folder, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def edit(path: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    root = tmp_path_factory.mktemp("pipelines")

    def folder_of(family: str) -> Path:
        folder = root / family.replace(" ", "-")
        return folder if folder.exists() else FAMILIES[family](folder)

    return folder_of


@pytest.fixture
def copied(saved: Callable[[str], Path], tmp_path: Path) -> Path:
    """A Stable Diffusion with safety checker that a test may damage."""
    return Path(shutil.copytree(saved("sd with checker"), tmp_path / "model"))


@pytest.mark.parametrize("family", FAMILIES)
def test_each_network_of_each_family_is_checked(
    family: str, saved: Callable[[str], Path], tmp_path: Path
) -> None:
    whole = saved(family)
    check(whole)
    files = sorted(whole.rglob("*.safetensors"))
    assert len(files) >= 3
    folder = Path(shutil.copytree(whole, tmp_path / "model"))
    for file in files:
        path = folder / file.relative_to(whole)
        edit(path, lambda tensors: tensors.pop(sorted(tensors)[len(tensors) // 2]))
        said = refusal(folder)
        assert said.startswith(f"generation.generator: in {path}, 1 of the ")
        shutil.copy(file, path)


def test_the_bundled_generator_is_complete() -> None:
    check(model_folder())


def test_a_text_encoder_without_some_tensors_is_refused_by_the_check_and_when_loaded(
    copied: Path,
) -> None:
    def without_a_third(tensors: dict[str, torch.Tensor]) -> None:
        for name in sorted(tensors)[::3]:
            del tensors[name]

    edit(copied / "text_encoder" / "model.safetensors", without_a_third)
    said = refusal(copied)
    assert "text_encoder/model.safetensors, 7 of the 20 tensors of a CLIPTextModel are" in said
    with pytest.raises(ModelError, match="7 of the 20 tensors of a CLIPTextModel are missing"):
        DiffusionFactory(model=str(copied))()


def _rename_to_pickled(folder: Path) -> None:
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    path.rename(path.with_suffix(".bin"))


def _overlap(folder: Path) -> None:
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    second = sorted(name for name in header if name != "__metadata__")[1]
    size = header[second]["data_offsets"][1] - header[second]["data_offsets"][0]
    header[second]["data_offsets"] = [0, size]
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])


def _end_in_zeros(folder: Path) -> None:
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] + bytes(len(content) - len(content) // 2))


def _reshape(folder: Path) -> None:
    edit(
        folder / "vae" / "diffusion_pytorch_model.safetensors",
        lambda tensors: tensors.update({"decoder.conv_in.bias": torch.zeros(9)}),
    )


def _other_config(folder: Path) -> None:
    path = folder / "unet" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"layers_per_block": 2}))


def _another_layer(folder: Path) -> None:
    def add(tensors: dict[str, torch.Tensor]) -> None:
        for name in [name for name in tensors if ".layers.0." in name]:
            tensors[name.replace(".layers.0.", ".layers.1.")] = tensors[name].clone()

    edit(folder / "text_encoder" / "model.safetensors", add)


def _another_block(folder: Path) -> None:
    def add(tensors: dict[str, torch.Tensor]) -> None:
        tensors["down_blocks.0.resnets.3.conv1.bias"] = torch.zeros(16)

    edit(folder / "unet" / "diffusion_pytorch_model.safetensors", add)


def _as_integers(folder: Path) -> None:
    edit(
        folder / "unet" / "diffusion_pytorch_model.safetensors",
        lambda tensors: tensors.update({"conv_in.bias": torch.ones(16, dtype=torch.int8)}),
    )


def _nested_index(folder: Path) -> None:
    (folder / "model_index.json").write_text("[" * 100_000 + "]" * 100_000)


def _unnamed(folder: Path) -> None:
    path = folder / "model_index.json"
    index = json.loads(path.read_text())
    del index["vae"]
    path.write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda f: shutil.rmtree(f / "unet"), "has no folder unet, which model_index.json names"),
        (lambda f: shutil.rmtree(f / "scheduler"), "scheduler"),
        (lambda f: shutil.rmtree(f / "tokenizer"), "tokenizer"),
        (lambda f: shutil.rmtree(f / "feature_extractor"), "feature_extractor"),
        (lambda f: (f / "unet" / "config.json").unlink(), "unet.*config.json"),
        (lambda f: (f / "text_encoder" / "config.json").write_text("{"), "text_enc.*config.json"),
        (_rename_to_pickled, r"unet has no diffusion_pytorch_model.safetensors.*are pickled"),
        (_overlap, r"unet/diffusion_pytorch_model.safetensors has a damaged header"),
        (_reshape, r"vae/diff.*, decoder.conv_in.bias has shape \[9\].*AutoencoderKL.*has \[8\]"),
        (_other_config, r"unet/.*, \d+ of the \d+ tensors of a UNet2DConditionModel are missing"),
        (_another_layer, r"text_encoder/.*, 16 tensors are of layers that a CLIPTextModel"),
        (_another_block, r"unet/.* does not have \(down_blocks.0.resnets.3.conv1.bias\)"),
        (_as_integers, r"conv_in.bias holds integers \(I8\) where a UNet2DConditionModel"),
        (lambda f: (f / "unet" / "config.json").write_text('"x/y"'), "unet/config.*no settings"),
        (lambda f: (f / "scheduler" / "scheduler_config.json").write_text("1"), "scheduler_config"),
        (lambda f: (f / "vae" / "config.json").write_text("[" * 99_999), "vae/config.json cannot"),
        (_nested_index, "model_index.json cannot be read"),
        (_unnamed, "vae"),
        (_end_in_zeros, r"ends in \S+ zeros in place of \S+: it was not fully copied; download"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)  # fmt: skip
def test_a_damaged_part_is_named(damage: Callable[[Path], None], says: str, copied: Path) -> None:
    damage(copied)
    said = refusal(copied)
    assert said.startswith("generation.generator: ")
    assert re.search(says, said), said


def _change(folder: Path, part: str, **settings: int) -> None:
    """Put a whole part of another model in the place of one."""
    import diffusers
    import transformers

    kinds = {"unet": diffusers.UNet2DConditionModel, "vae": diffusers.AutoencoderKL}
    if part in kinds:
        config = dict(kinds[part].load_config(folder / part)) | settings
        kinds[part].from_config(config).save_pretrained(folder / part)
        return
    config = transformers.CLIPTextConfig.from_pretrained(folder / part)
    config.update(settings)
    transformers.CLIPTextModel(config).save_pretrained(folder / part)


@pytest.mark.parametrize(
    ("family", "part", "settings", "says"),
    [
        ("sd", "text_encoder", {"hidden_size": 32}, "give 32 numbers a token, the UNet.* takes 16"),
        ("sdxl", "text_encoder", {"hidden_size": 32}, "give 48 numbers a token, the .* takes 32"),
        ("sd", "text_encoder", {"vocab_size": 8}, r"tokenizer has \d+ words, text_encoder 8"),
        ("sd", "text_encoder", {"max_position_embeddings": 20}, "77 tokens, text_encoder takes 20"),
        ("sd with checker", "vae", {"latent_channels": 16}, "gives 16 channels, the UNet"),
        ("sd3", "vae", {"latent_channels": 16}, "vae gives 16 channels, the SD3.* takes 4"),
        ("flux", "vae", {"latent_channels": 16}, "vae gives 64 channels, the Flux.* takes 16"),
        ("sd", "unet", {"in_channels": 9}, "vae gives 4 channels, the UNet.* takes 9"),
    ],
)  # fmt: skip
def test_whole_parts_of_different_models_are_refused(
    family: str, part: str, settings: dict[str, int], says: str,
    saved: Callable[[str], Path], tmp_path: Path,
) -> None:  # fmt: skip
    folder = Path(shutil.copytree(saved(family), tmp_path / "model"))
    _change(folder, part, **settings)
    assert re.search(f"parts of .*model are of different models: .*{says}", refusal(folder))


@pytest.mark.parametrize("setting", ["decoder", "feedback_decoder"])
def test_a_tiny_decoder_is_whole_and_of_this_model_or_refused(
    setting: str, saved: Callable[[str], Path], tmp_path: Path
) -> None:
    import diffusers

    tiny = Path(shutil.copytree(saved("sd") / "vae", tmp_path / "tiny"))
    path = tiny / "diffusion_pytorch_model.safetensors"
    check(saved("sd"), **{setting: str(tiny)})
    whole = path.read_bytes()
    edit(path, lambda tensors: tensors.pop(sorted(tensors)[-1]))
    said = refusal(saved("sd"), **{setting: str(tiny)})
    assert said.startswith(f"generation.{setting}: in {path}, 1 of the ")
    path.write_bytes(whole)
    path.rename(path.with_suffix(".bin"))
    assert "pickled" in refusal(saved("sd"), **{setting: str(tiny)})
    config = dict(diffusers.AutoencoderTiny.load_config(tiny)) | {"latent_channels": 6}
    diffusers.AutoencoderTiny.from_config(config).save_pretrained(tiny)
    assert "decodes 6 channels" in refusal(saved("sd"), **{setting: str(tiny)})
    assert "nowhere" in refusal(saved("sd"), **{setting: "./nowhere"})


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_not_finite_are_refused_when_loaded(number: float, copied: Path) -> None:
    edit(
        copied / "vae" / "diffusion_pytorch_model.safetensors",
        lambda tensors: tensors["decoder.conv_in.bias"].fill_(number),
    )
    with pytest.raises(ModelError, match=r"the vae of .* not finite, in decoder\.conv_in\.bias"):
        DiffusionFactory(model=str(copied))()


def test_shards_and_variants_are_those_that_are_loaded(copied: Path) -> None:
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(copied)
    shutil.rmtree(copied)
    pipeline.save_pretrained(copied, max_shard_size="50KB", variant="fp16")
    check(copied, variant="fp16")
    index = next((copied / "unet").glob("*.index*.json"))
    shards = json.loads(index.read_text())["weight_map"]
    assert len(set(shards.values())) > 1
    name = "conv_in.weight"
    edit(copied / "unet" / shards[name], lambda tensors: tensors.pop(name))
    assert f"({name}, by the index in {shards[name]})" in refusal(copied, variant="fp16")
    assert "has no" in refusal(copied)  # no plain files


def test_names_of_attention_blocks_before_2023_are_known(copied: Path) -> None:
    """As in the autoencoder of the published SD 1.5."""

    def old_names(tensors: dict[str, torch.Tensor]) -> None:
        for name in list(tensors):
            old = name
            for new, before in (
                ("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn"),
            ):  # fmt: skip
                old = old.replace(new, before)
            tensors[old] = tensors.pop(name)

    path = copied / "vae" / "diffusion_pytorch_model.safetensors"
    edit(path, old_names)
    assert any("proj_attn" in name for name in load_file(path))
    check(copied)
    DiffusionFactory(model=str(copied))()


def test_litter_of_a_file_manager_is_no_part_of_the_model(copied: Path) -> None:
    from gendataagent.core.hub import content_hash

    before = content_hash(copied)
    for path in list(copied.rglob("*.safetensors")):
        (path.parent / f"._{path.name}").write_bytes(b"\x00\x05\x16\x07Mac OS X")
    check(copied)
    assert content_hash(copied) == before


def test_a_size_and_a_scheduler_that_do_not_suit_are_refused_before_loading(
    copied: Path,
) -> None:
    with pytest.raises(ConfigError, match="size_px"):
        check(copied, size_px=33)
    assert "no scheduler" in refusal(copied, scheduler="NoSuchScheduler")


def test_code_of_a_part_is_not_run(copied: Path, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    index = json.loads((copied / "model_index.json").read_text())
    index["unet"] = ["my_unet", "MyUNet"]
    (copied / "model_index.json").write_text(json.dumps(index))
    (copied / "unet" / "my_unet.py").write_text(f"open({str(mark)!r}, 'w')")
    assert "trust" in refusal(copied)
    with pytest.raises(ModelError, match="trust"):
        DiffusionFactory(model=str(copied))()
    assert not mark.exists()


def test_a_half_downloaded_hub_model_needs_the_hub(
    copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    from gendataagent.core.completeness import collect_unchecked

    cache = tmp_path / "hub" / "models--someone--sd"
    (cache / "refs").mkdir(parents=True)
    (cache / "refs" / "main").write_text("c0ffee")
    shutil.copytree(copied, cache / "snapshots" / "c0ffee")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache.parent))
    spec = DiffusionSpec(model="someone/sd")
    with collect_unchecked() as unchecked:
        spec.check()
    assert not unchecked
    weights = cache / "snapshots" / "c0ffee" / "unet" / "diffusion_pytorch_model.safetensors"
    weights.unlink()
    weights.symlink_to(cache / "blobs" / "copied-without-its-files")
    with pytest.raises(ModelError, match=r"someone/sd.*the hub cannot be reached"):
        spec.check()
    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", lambda _: None)  # it can
    with collect_unchecked() as unchecked:
        spec.check()
    (sentence,) = unchecked
    assert "someone/sd is complete is checked when it is loaded: not all of its parts" in sentence


@pytest.fixture
def lora(tmp_path: Path) -> Path:
    return tiny_models.save_tiny_lora(tmp_path / "lora")


def test_a_lora_is_tried_on_the_networks_without_weights(
    saved: Callable[[str], Path], lora: Path, tmp_path: Path
) -> None:
    check(saved("sd"), lora=str(lora))
    wide = tiny_models.save_tiny_lora(tmp_path / "wide", width=24)
    assert "does not fit this generator" in refusal(saved("sd"), lora=str(wide))
    assert "0 of its 64 matrices match a layer" in refusal(saved("sd3"), lora=str(lora))
    assert "name a LoRA made for it" in refusal(saved("sdxl"), lora=str(lora))


@pytest.mark.parametrize("half", ["up", "down"])
def test_a_lora_that_lacks_halves_is_refused(
    half: str, saved: Callable[[str], Path], lora: Path
) -> None:
    def without_a_third(tensors: dict[str, torch.Tensor]) -> None:
        for name in sorted(name for name in tensors if f".{half}." in name)[::3]:
            del tensors[name]

    edit(lora, without_a_third)
    said = refusal(saved("sd"), lora=str(lora))
    assert "lacks the other half of 11 of its 53 matrices" in said
    assert f".{half}.weight" in said
    with pytest.raises(ModelError, match="lacks the other half"):
        DiffusionFactory(model=str(saved("sd")), lora=str(lora))()


@pytest.mark.parametrize(
    ("down", "up"),
    [
        ("unet.to_q.lora_A.weight", "unet.to_q.lora_B.weight"),
        ("unet.to_q.lora_A.default.weight", "unet.to_q.lora_B.default.weight"),
        ("unet.to_q.lora.down.weight", "unet.to_q.lora.up.weight"),
        ("unet.attn1.processor.to_q_lora.down.weight", "unet.attn1.processor.to_q_lora.up.weight"),
        ("text_encoder.q_proj.lora_linear_layer.down.weight",
         "text_encoder.q_proj.lora_linear_layer.up.weight"),
        ("lora_unet_down_blocks_0_to_q.lora_down.weight",
         "lora_unet_down_blocks_0_to_q.lora_up.weight"),
        ("double_blocks.0.processor.qkv_lora1.down.weight",
         "double_blocks.0.processor.qkv_lora1.up.weight"),
    ],
)  # fmt: skip
def test_the_halves_of_every_naming_are_known(down: str, up: str, tmp_path: Path) -> None:
    from gendataagent.generation.diffusion.lora import Lora, find_lora

    path = tmp_path / "lora.safetensors"
    half_A, half_B = torch.zeros(2, 8), torch.zeros(4, 2)
    alpha = {down.partition(".lora")[0] + ".alpha": torch.tensor(2.0)}
    save_file({down: half_A, up: half_B, **alpha}, path)
    lora = Lora("generation.lora", str(path), 1.0)
    find_lora(lora)
    for alone, missing in ((down, up), (up, down)):
        save_file({alone: half_A, **alpha}, path)
        with pytest.raises(ModelError) as caught:
            find_lora(lora)
        assert missing in str(caught.value)
    save_file({down: half_A, up: torch.zeros(4, 3)}, path)
    with pytest.raises(ModelError, match="of another rank"):
        find_lora(lora)
