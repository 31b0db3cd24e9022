"""A model is complete or refused, by the headers of its files: every kind that tests can build."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from gendataagent.core.completeness import check_auto
from gendataagent.core.errors import ModelError
from gendataagent.core.hub import ModelSource
from tests.tiny_captioners import FAMILIES, save_tiny_captioner
from tests.tiny_language import save_tiny_llama

SETTING = "prompting.captioner"


def source_of(folder: Path) -> ModelSource:
    return ModelSource(setting=SETTING, kind="a model", name=str(folder))


def check(folder: Path, auto: Any = transformers.AutoModelForImageTextToText) -> None:
    """Check a model as it would be loaded; a warning that it could not be checked is an error."""
    config = transformers.AutoConfig.from_pretrained(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_auto(source_of(folder), auto, config)


def edit(path: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    """Change the tensors of a safetensors file."""
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


@pytest.fixture(scope="module")
def captioners(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    root = tmp_path_factory.mktemp("captioners")

    def saved(family: str) -> Path:
        folder = root / family
        return folder if folder.exists() else save_tiny_captioner(folder, family)

    return saved


def _drop(name: str, tensors: dict[str, torch.Tensor]) -> None:
    del tensors[name]


def _reshape(name: str, tensors: dict[str, torch.Tensor]) -> None:
    tensors[name] = torch.zeros(*tensors[name].shape, 2)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_complete_captioner_passes_and_each_tensor_is_missed(
    family: str, captioners: Callable[[str], Path], tmp_path: Path
) -> None:
    whole = captioners(family)
    check(whole)
    folder = Path(shutil.copytree(whole, tmp_path / "model"))
    weights = folder / "model.safetensors"
    names = list(load_file(weights))
    for name in names[1 :: len(names) // 3]:
        edit(weights, partial(_drop, name))
        with pytest.raises(ModelError, match=r"of the \d+ tensors of a .* missing") as caught:
            check(folder)
        assert str(caught.value).startswith(f"{SETTING}: in {weights}")
        assert f".{name.rpartition('.')[2]}" in str(caught.value)  # renamed in some families
        shutil.copy(whole / weights.name, weights)
        edit(weights, partial(_reshape, name))
        with pytest.raises(
            ModelError, match=r"has shape \[.*2\], but a .* by its configuration has"
        ):
            check(folder)
        shutil.copy(whole / weights.name, weights)


def _tied_llama(folder: Path) -> None:
    config = transformers.LlamaConfig(
        vocab_size=50, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, tie_word_embeddings=True,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).save_pretrained(folder)


def _gpt2(folder: Path) -> None:
    config = transformers.GPT2Config(n_embd=32, n_layer=2, n_head=2, vocab_size=50, n_positions=64)
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)


def _opt(folder: Path) -> None:
    config = transformers.OPTConfig(
        vocab_size=50, hidden_size=32, ffn_dim=64, num_hidden_layers=2, num_attention_heads=4,
        word_embed_proj_dim=32,
    )  # fmt: skip
    transformers.OPTForCausalLM(config).save_pretrained(folder)


def _qwen3_of_experts(folder: Path) -> None:
    config = transformers.Qwen3MoeConfig(
        vocab_size=50, hidden_size=32, intermediate_size=64, moe_intermediate_size=16,
        num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, num_experts=4,
        num_experts_per_tok=2, head_dim=8,
    )  # fmt: skip
    transformers.Qwen3MoeForCausalLM(config).save_pretrained(folder)


@pytest.mark.parametrize(
    "save", [save_tiny_llama, _tied_llama, _gpt2, _opt, _qwen3_of_experts], ids=lambda f: f.__name__
)
def test_a_complete_language_model_passes_and_a_lacking_one_does_not(
    save: Callable[[Path], object], tmp_path: Path
) -> None:
    save(tmp_path)
    check(tmp_path, transformers.AutoModelForCausalLM)
    edit(tmp_path / "model.safetensors", lambda tensors: tensors.pop(sorted(tensors)[-3]))
    with pytest.raises(ModelError, match=r"tensors of a \w+ForCausalLM|LMHeadModel are missing"):
        check(tmp_path, transformers.AutoModelForCausalLM)


@pytest.mark.parametrize("key", ["num_hidden_layers", "n_layer"])
def test_a_configuration_of_fewer_layers_than_the_file_has_is_refused(
    key: str, tmp_path: Path
) -> None:
    (_gpt2 if key == "n_layer" else _opt)(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: 1}))
    with pytest.raises(ModelError, match=r"tensors are of layers that a \w+ by its configuration"):
        check(tmp_path, transformers.AutoModelForCausalLM)


def test_integers_in_the_place_of_fractions_are_refused(tmp_path: Path) -> None:
    _opt(tmp_path)

    def as_integers(tensors: dict[str, torch.Tensor]) -> None:
        for name in tensors:
            tensors[name] = tensors[name].to(torch.int8)

    edit(tmp_path / "model.safetensors", as_integers)
    with pytest.raises(ModelError, match=r"holds integers \(I8\) where a OPTForCausalLM has frac"):
        check(tmp_path, transformers.AutoModelForCausalLM)


def _resnet() -> Any:
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"
    )
    return transformers.ResNetForImageClassification(config)


def _convnext() -> Any:
    config = transformers.ConvNextConfig(hidden_sizes=[8, 16], depths=[1, 1], num_stages=2)
    return transformers.ConvNextForImageClassification(config)


def _swin() -> Any:
    config = transformers.SwinConfig(
        image_size=32, patch_size=4, embed_dim=8, depths=[2, 2], num_heads=[2, 2], window_size=4
    )
    return transformers.SwinForImageClassification(config)


def _mobilenet() -> Any:
    config = transformers.MobileNetV2Config(depth_multiplier=0.25)
    return transformers.MobileNetV2ForImageClassification(config)


def _vit() -> Any:
    config = transformers.ViTConfig(
        image_size=16, patch_size=8, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32,
    )  # fmt: skip
    return transformers.ViTForImageClassification(config)


@pytest.mark.parametrize("build", [_resnet, _convnext, _swin, _mobilenet, _vit])
def test_a_complete_classifier_passes_and_a_lacking_one_does_not(
    build: Callable[[], Any], tmp_path: Path
) -> None:
    build().save_pretrained(tmp_path)
    check(tmp_path, transformers.AutoModelForImageClassification)
    edit(tmp_path / "model.safetensors", lambda tensors: tensors.pop(sorted(tensors)[5]))
    with pytest.raises(ModelError, match=r"1 of the \d+ tensors of a \w+ForImageClassification"):
        check(tmp_path, transformers.AutoModelForImageClassification)


@pytest.mark.parametrize("statistic", ["running_mean", "running_var"])
def test_statistics_of_batchnorm_are_needed_its_counter_is_not(
    statistic: str, tmp_path: Path
) -> None:
    _resnet().save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    auto = transformers.AutoModelForImageClassification

    def without(ending: str) -> None:
        kept = {name: t for name, t in load_file(weights).items() if not name.endswith(ending)}
        save_file(kept, weights, metadata={"format": "pt"})

    without("num_batches_tracked")
    check(tmp_path, auto)
    without(statistic)
    with pytest.raises(ModelError, match=statistic):
        check(tmp_path, auto)


def test_tables_of_positions_that_the_model_computes_may_be_missing(tmp_path: Path) -> None:
    _swin().save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    kept = {n: t for n, t in load_file(weights).items() if not n.endswith("position_index")}
    save_file(kept, weights, metadata={"format": "pt"})
    check(tmp_path, transformers.AutoModelForImageClassification)


def test_shards_are_read_through_their_index(tmp_path: Path) -> None:
    transformers.LlamaForCausalLM.from_pretrained(
        save_tiny_llama(tmp_path / "one")
    ).save_pretrained(tmp_path / "many", max_shard_size="30KB")
    auto, folder = transformers.AutoModelForCausalLM, tmp_path / "many"
    index = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    assert len(set(index.values())) > 2
    check(folder, auto)
    name = "model.layers.1.mlp.up_proj.weight"
    edit(folder / index[name], lambda tensors: tensors.pop(name))
    with pytest.raises(
        ModelError, match=rf"index.json, 1 of .*{name}, by the index in {index[name]}"
    ):
        check(folder, auto)
    (folder / index[name]).unlink()
    with pytest.raises(ModelError, match=rf"in {folder}, lacks {index[name]}, listed in"):
        check(folder, auto)


def test_shards_of_two_models_and_a_misshapen_one_are_refused(tmp_path: Path) -> None:
    transformers.LlamaForCausalLM.from_pretrained(
        save_tiny_llama(tmp_path / "one")
    ).save_pretrained(tmp_path / "many", max_shard_size="30KB")
    auto, folder = transformers.AutoModelForCausalLM, tmp_path / "many"
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())["weight_map"]
    name = "model.layers.1.mlp.up_proj.weight"
    whole = (folder / index[name]).read_bytes()
    edit(folder / index[name], partial(_reshape, name))
    with pytest.raises(ModelError, match=rf"index\.json, {name} has shape \[.*2\], but a Llama"):
        check(folder, auto)
    (folder / index[name]).write_bytes(whole)
    other = next(file for file in index.values() if file != index[name])
    edit(folder / other, lambda tensors: tensors.update({name: torch.zeros(1)}))
    with pytest.raises(ModelError, match=rf"both hold {name}: shards of two models are mixed"):
        check(folder, auto)
    path.write_text(json.dumps({"weight_map": {}}))
    with pytest.raises(ModelError, match=r"(\d+) of the \1 tensors of a LlamaFor.* are missing"):
        check(folder, auto)


def test_a_tied_tensor_may_be_left_out_once_and_only_if_it_is_tied(tmp_path: Path) -> None:
    auto = transformers.AutoModelForCausalLM
    _tied_llama(tmp_path)
    weights, path = tmp_path / "model.safetensors", tmp_path / "config.json"
    assert "lm_head.weight" not in load_file(weights)
    check(tmp_path, auto)
    settings = path.read_text()
    path.write_text(json.dumps(json.loads(settings) | {"tie_word_embeddings": False}))
    with pytest.raises(ModelError, match=r"1 of the \d+ tensors .* missing \(lm_head\.weight\)"):
        check(tmp_path, auto)
    path.write_text(settings)
    edit(weights, partial(_drop, "model.embed_tokens.weight"))
    with pytest.raises(ModelError, match=r"missing \(.*embed_tokens\.weight"):
        check(tmp_path, auto)


@pytest.mark.parametrize(
    "extra",
    ["q_proj.bias", "q_proj.weight_scale", "q_proj.scale_weight", "q_proj.weight.absmax",
     "q_proj.SCB", "q_proj.lora_A.weight"],
)  # fmt: skip
def test_tensors_of_another_kind_of_layer_are_refused(extra: str, tmp_path: Path) -> None:
    """A bias that the configuration does not have, the scale of fp8, an adapter not merged."""
    save_tiny_llama(tmp_path)
    name = f"model.layers.1.self_attn.{extra}"
    edit(tmp_path / "model.safetensors", lambda tensors: tensors.update({name: torch.ones(1)}))
    with pytest.raises(ModelError, match=rf"1 tensor is of layers that .* not have \({name}\)"):
        check(tmp_path, transformers.AutoModelForCausalLM)


def test_a_tensor_beside_the_layers_is_of_no_account(tmp_path: Path) -> None:
    """A mask token of pretraining, a counter: libraries leave them out, too."""
    _vit().save_pretrained(tmp_path)
    extra = {"vit.embeddings.mask_token": torch.ones(1, 1, 16), "ema.decay": torch.ones(1)}
    edit(tmp_path / "model.safetensors", lambda tensors: tensors.update(extra))
    check(tmp_path, transformers.AutoModelForImageClassification)


def test_numbers_in_eight_bits_are_read_and_packed_ones_are_not(tmp_path: Path) -> None:
    save_tiny_llama(tmp_path)
    weights, auto = tmp_path / "model.safetensors", transformers.AutoModelForCausalLM
    name = "model.layers.1.mlp.up_proj.weight"
    edit(weights, lambda t: t.update({name: t[name].to(torch.float8_e4m3fn)}))
    check(tmp_path, auto)
    content = weights.read_bytes()
    weights.write_bytes(content.replace(b'"F8_E4M3"', b'"F8_E8M0"'))
    with pytest.raises(ModelError, match=rf"{name} is of type F8_E8M0, which only quantised"):
        check(tmp_path, auto)


def test_a_folder_without_the_file_that_is_loaded_is_refused(tmp_path: Path) -> None:
    save_tiny_llama(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "weights.safetensors")
    with pytest.raises(ModelError, match=r"has no model\.safetensors"):
        check(tmp_path, transformers.AutoModelForCausalLM)


def test_packed_weights_are_left_to_loading_and_that_is_said(tmp_path: Path) -> None:
    save_tiny_llama(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserWarning, match="checked when it is loaded: its weights are packed"):
        check(tmp_path, transformers.AutoModelForCausalLM)


def test_the_check_of_a_model_of_seven_billion_weights_reads_headers_only(tmp_path: Path) -> None:
    """28 GB by its header, in a file with a hole: reading it would take minutes."""
    import time

    config = transformers.LlamaConfig()  # the 7B one
    config.save_pretrained(tmp_path)
    with torch.device("meta"):
        tensors = transformers.LlamaForCausalLM(config).state_dict()
    header, end = {}, 0
    for name, tensor in tensors.items():
        size = 4 * tensor.numel()
        header[name] = {"dtype": "F32", "shape": [*tensor.shape], "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    with open(tmp_path / "model.safetensors", "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
        file.seek(-1, 2)
        file.write(b"\1")
    assert end > 26e9
    start = time.perf_counter()
    check(tmp_path, transformers.AutoModelForCausalLM)
    assert time.perf_counter() - start < 10
    with open(tmp_path / "model.safetensors", "r+b") as file:
        file.seek(-1, 2)
        file.write(b"\0")
    with pytest.raises(ModelError, match=r"model\.safetensors ends in \S+ zeros or more"):
        check(tmp_path, transformers.AutoModelForCausalLM)
