"""Count what `gendataagent plan` knows of models: weights, FLOPs, activation bytes.

    python scripts/full_size/count.py                       # compare with the facts in the package
    python scripts/full_size/count.py --write               # and write them there
    python scripts/full_size/count.py microsoft/resnet-50   # some models only

Half a minute on one core, no GPU, little memory: models are built from their configs on torch's
meta device, which has shapes and no numbers. FLOPs are those of torch.utils.flop_counter (a
multiply-add is two). FLOPs of a UNet or an autoencoder are a polynomial in the number n of its
(latent) pixels, since attention is quadratic and all else linear: c0 + c1 n + c2 n^2, from three
sizes; a fourth size is the check. Activation bytes are those alive at once in float16 with fused
attention, beyond weights; for training, those alive when the backward pass begins.
"""

from __future__ import annotations

import argparse
import tomllib
from collections.abc import Callable, Sequence
from typing import Any
from unittest import mock

import numpy as np
import tomli_w
import torch
from architectures import CONFIGS, build
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from peft import LoraConfig
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig

from gendataagent.core.files import read_json
from gendataagent.runs.planning.facts import FILE

HEADER = """\
# Facts on models, counted by scripts/full_size/count.py, and on GPUs, from their data sheets.
# What each value means: facts.py.

"""
Sides = tuple[int, int, int, int]
"""Three sides to fit a polynomial to, and one to check it."""


class LiveBytes(TorchDispatchMode):
    """Bytes of the tensors made inside it that are still alive, and their peak."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._alive: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        given = {storage._cdata for storage in _storages((args, kwargs))}
        for storage in _storages(result):
            if storage._cdata not in given:
                self._alive[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        self.peak = max(self.peak, self.now())
        return result

    def now(self) -> int:
        """Return the bytes alive now."""
        self._alive = {k: v for k, v in self._alive.items() if not v[0].expired()}
        return sum(nbytes for _, nbytes in self._alive.values())


def _storages(tree: Any) -> list[Any]:
    return [leaf.untyped_storage() for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


class _FusedAttention(torch.autograd.Function):
    """Attention as flash kernels keep it: no matrix of all pairs."""

    @staticmethod
    def forward(context: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        output = query.new_empty((*query.shape[:-1], value.shape[-1]))
        context.save_for_backward(query, key, value, output)
        return output


def _fused(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> Tensor:
    return _FusedAttention.apply(query, key, value)  # type: ignore[no-any-return, no-untyped-call]


_fused_attention = mock.patch.object(functional, "scaled_dot_product_attention", _fused)


def weights(*modules: Any) -> int:
    """Return the number of parameters."""
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def flops(call: Callable[[], Any]) -> int:
    """Return the floating point operations of a call, without gradients."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        call()
    return int(counter.get_total_flops())


def polynomial(call: Callable[[int], Any], sides: Sides) -> list[float]:
    """Return c0, c1, c2 of FLOPs over the pixels side^2; exit if the fourth side does not fit."""
    pixels = np.array([side**2 for side in sides], dtype=np.float64)
    counted = np.array([flops(lambda s=side: call(s)) for side in sides])  # type: ignore[misc]
    fit = np.polyfit(pixels[:3], counted[:3], 2)
    if not np.allclose(np.polyval(fit, pixels), counted, rtol=1e-3):
        raise SystemExit(f"FLOPs are not quadratic in the pixels: {counted} at {pixels} pixels")
    noise = 1e-9 * counted[2] / pixels[2] ** np.arange(3)  # left of a term that is absent
    return [
        _rounded(c) if abs(c) > least else 0.0 for c, least in zip(fit[::-1], noise, strict=True)
    ]


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


@_fused_attention
def peak(call: Callable[[], Any]) -> int:
    """Return the most activation bytes alive during a call without gradients."""
    with LiveBytes() as live, torch.no_grad():
        call()
    return int(live.peak)


@_fused_attention
def kept(call: Callable[[], Any]) -> int:
    """Return the activation bytes alive when a backward pass would begin."""
    with LiveBytes() as live:
        result = call()
        alive = live.now()
    del result
    return int(alive)


def generator(unet: Any, vae: Any, others: Sequence[Any], latents: Sides) -> dict[str, Any]:
    """Return the facts of a latent diffusion model; `latents` are sides of its latents."""
    unet.eval().half()
    vae.eval().half()
    width, side = unet.config.cross_attention_dim, latents[2]
    shrink = 2 ** (len(getattr(vae.config, "block_out_channels", (1,) * 3)) - 1)
    added = None
    if unet.config.addition_embed_type == "text_time":
        added = {"text_embeds": torch.empty(1, 1280).half(), "time_ids": torch.empty(1, 6).half()}

    def denoise(side: int = side) -> Any:
        noisy = torch.empty(1, unet.config.in_channels, side, side).half()
        text = torch.empty(1, 77, width).half()
        return unet(noisy, torch.empty(1), text, added_cond_kwargs=added).sample

    def encode(side: int) -> Any:
        return vae.encode(torch.empty(1, 3, side, side).half())

    def decode(side: int, *, with_gradient: bool = False) -> Any:
        latent = torch.empty(1, vae.config.latent_channels, side // shrink, side // shrink).half()
        return vae.decode(latent.requires_grad_(with_gradient)).sample

    pixels: Any = (4 * shrink, 6 * shrink, 8 * shrink, 12 * shrink)
    facts: dict[str, Any] = {
        "parameters": weights(unet, vae, *others),
        "size_px": unet.config.sample_size * shrink,
        "shrink": shrink,
        "unet_parameters": weights(unet),
        "block_out_channels": list(unet.config.block_out_channels),
        "cross_attention_dim": width,
        "unet_flops": polynomial(denoise, latents),
        "encode_flops": polynomial(encode, pixels),
        "decode_flops": polynomial(decode, pixels),
        "unet_bytes": _rounded(peak(denoise) / side**2),
        "decode_bytes": _rounded(peak(lambda: decode(pixels[2])) / pixels[2] ** 2),
    }
    unet.requires_grad_(False)
    vae.requires_grad_(False)
    facts["decode_kept_bytes"] = _rounded(
        kept(lambda: decode(pixels[2], with_gradient=True)) / pixels[2] ** 2
    )
    targets = ["to_q", "to_k", "to_v", "to_out.0"]
    unet.add_adapter(LoraConfig(r=4, lora_alpha=4, target_modules=targets))
    unet.half().train()
    facts["kept_bytes"] = _rounded(kept(denoise) / side**2)
    unet.enable_gradient_checkpointing()
    facts["checkpointed_bytes"] = _rounded(kept(denoise) / side**2)
    return facts


def backbone(model: Any, size_px: int) -> dict[str, Any]:
    """Return the facts of an image classifier at its usual size, per image."""
    model.eval()
    shape, pixels = (8, 3, size_px, size_px), 8 * size_px**2
    facts: dict[str, Any] = {
        "parameters": weights(model),
        "size_px": size_px,
        "flops": flops(lambda: model(torch.empty(1, *shape[1:]))),
    }
    model.half().train()
    images = torch.empty(shape).half()
    facts["kept_bytes"] = _rounded(kept(lambda: model(images)) / pixels)
    # as the VoG filter does it: eval mode, float32, frozen weights, gradients of the images
    model.float().eval().requires_grad_(False)
    images = torch.empty(shape, requires_grad=True)
    facts["vog_bytes"] = _rounded(kept(lambda: model(images)) / pixels)
    return facts


def captioner(model: Any, language: Any, *, size_px: int, prompt_tokens: int) -> dict[str, Any]:
    """Return the facts of a captioner whose language model starts from so many tokens."""
    images, vision = torch.empty(1, 3, size_px, size_px), model.vision_model.eval()
    return {
        "parameters": weights(model),
        "language_parameters": weights(language),
        "vision_flops": flops(lambda: vision(images)),
        "prompt_tokens": prompt_tokens,
    }


FULL, COUNTED = CONFIGS["full"], CONFIGS["counted"]


def _sd15() -> dict[str, Any]:
    checker = StableDiffusionSafetyChecker(AutoConfig.for_model(**COUNTED["sd15-safety-checker"]))
    others = build(FULL["text_encoder"]), checker
    return generator(build(FULL["unet"]), build(FULL["vae"]), others, (32, 48, 64, 96))


def _sdxl() -> dict[str, Any]:
    others = build(FULL["text_encoder"]), build(COUNTED["sdxl-text-encoder-2"])
    return generator(build(COUNTED["sdxl-unet"]), build(FULL["vae"]), others, (64, 96, 128, 80))


def _sd_turbo() -> dict[str, Any]:
    unet, text_encoder = (build(COUNTED[f"sd-turbo-{part}"]) for part in ("unet", "text-encoder"))
    return generator(unet, build(FULL["vae"]), [text_encoder], (32, 48, 64, 96))


def _tiny_sd() -> dict[str, Any]:
    from gendataagent.generation.tiny.model import model_folder

    parts = ("unet", "vae", "text_encoder")
    unet, vae, text = (build(read_json(model_folder() / part / "config.json")) for part in parts)
    return generator(unet, vae, [text], (4, 8, 16, 12))


def decoder(model: Any) -> dict[str, Any]:
    """Return the facts of a tiny autoencoder of which only the decoder is used."""
    model.eval()

    def decode(side: int) -> Any:
        return model.decode(torch.empty(1, model.config.latent_channels, side // 8, side // 8))

    return {"parameters": weights(model), "decode_flops": polynomial(decode, (256, 384, 512, 768))}


def controlnet(model: Any) -> dict[str, Any]:
    """Return the facts of a ControlNet."""
    model.eval()
    width, added = model.config.cross_attention_dim, None
    if model.config.addition_embed_type == "text_time":
        added = {"text_embeds": torch.empty(1, 1280), "time_ids": torch.empty(1, 6)}

    def control(side: int) -> Any:
        noisy, shown = torch.empty(1, 4, side, side), torch.empty(1, 3, 8 * side, 8 * side)
        text = torch.empty(1, 77, width)
        return model(noisy, torch.empty(1), text, shown, added_cond_kwargs=added)

    return {
        "parameters": weights(model),
        "block_out_channels": list(model.config.block_out_channels),
        "cross_attention_dim": width,
        "flops": polynomial(control, (32, 48, 64, 96)),
    }


def _tiny_resnet() -> dict[str, Any]:
    from gendataagent.config import ClassifierConfig
    from gendataagent.training.backbones import build_classifier

    config, names = ClassifierConfig(model="tiny-resnet"), [str(i) for i in range(10)]
    with torch.device("cpu"):
        model = build_classifier(config, names, seed=0, device="cpu").module.to("meta")
    return backbone(model, 64)


def _blip2() -> dict[str, Any]:
    model = build(FULL["blip2"])
    # the prompt: 32 queries of the Q-Former and the start
    return captioner(model, model.language_model, size_px=224, prompt_tokens=33)


def _blip() -> dict[str, Any]:
    model = build(COUNTED["Salesforce/blip-image-captioning-base"])
    return captioner(model, model.text_decoder, size_px=384, prompt_tokens=1)


MODELS: dict[str, Callable[[], dict[str, Any]]] = {
    "tiny-sd": _tiny_sd,
    "stable-diffusion-v1-5/stable-diffusion-v1-5": _sd15,
    "stabilityai/sd-turbo": _sd_turbo,
    "stabilityai/stable-diffusion-xl-base-1.0": _sdxl,
    "Salesforce/blip2-opt-2.7b": _blip2,
    "Salesforce/blip-image-captioning-base": _blip,
    "meta-llama/Llama-2-7b-chat-hf": lambda: {"parameters": weights(build(FULL["llama"]))},
    "microsoft/resnet-50": lambda: backbone(build(FULL["resnet"]), 224),
    "tiny-resnet": _tiny_resnet,
}


def count(section: str, name: str) -> dict[str, Any]:
    """Return the facts of a model by its name; those without a line in `MODELS` by its section."""
    with torch.device("meta"):
        if name in MODELS:
            return MODELS[name]()
        model = build(COUNTED[name])
        if section == "decoders":
            return decoder(model)
        if section == "controlnets":
            return controlnet(model)
        return backbone(model, 224) if section == "backbones" else {"parameters": weights(model)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print each fact that differs from the package's; return 0 if none does or all are written."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", help="hub ids; all by default")
    parser.add_argument("--write", action="store_true", help="write the facts into the package")
    options = parser.parse_args(arguments)
    facts = tomllib.loads(FILE.read_text(encoding="utf-8"))
    differ = False
    for section in (
        "generators",
        "decoders",
        "controlnets",
        "captioners",
        "language_models",
        "backbones",
    ):
        for name, known in facts[section].items():
            if "same_as" in known or (options.models and name not in options.models):
                continue
            counted = count(section, name)
            for key, value in counted.items():
                if known.get(key) != value:
                    print(f"{name}: {key} is {value}, was {known.get(key)}")
                    differ = True
            facts[section][name] = counted | {k: v for k, v in known.items() if k not in counted}
    if options.write:
        text = tomli_w.dumps(facts).replace("[\n    ", "[").replace(",\n    ", ", ")
        FILE.write_text(HEADER + text.replace(",\n]", "]"), encoding="utf-8")
    return int(differ and not options.write)


if __name__ == "__main__":
    raise SystemExit(main())
