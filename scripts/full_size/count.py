"""Counts what `gendataagent plan` knows of architectures: weights, FLOPs, activation bytes.

    python scripts/full_size/count.py            # about two minutes, no GPU, little memory

Everything is built on torch's meta device, which has shapes and no numbers. FLOPs are those of
torch.utils.flop_counter (a multiply-add is two). A UNet's or autoencoder's FLOPs are a polynomial
of second order in the number of its (latent) pixels n, since attention is quadratic and all else
linear: c0 + c1 n + c2 n^2, from three sizes; a fourth size is printed as a check. Activation bytes
are those alive at once in float16 with fused attention, beyond weights; for training, those alive
when the backward pass begins.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import architectures
import numpy as np
import torch
from architectures import FULL
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

HALF_BYTES = 2


class LiveBytes(TorchDispatchMode):
    """Bytes of the tensors made inside it that are still alive, and the most there ever were."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._alive: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        before = {
            leaf.untyped_storage()._cdata
            for leaf in tree_leaves((args, kwargs))
            if isinstance(leaf, Tensor)
        }
        result = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and leaf.untyped_storage()._cdata not in before:
                storage = leaf.untyped_storage()
                self._alive[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        self.peak = max(self.peak, self.now())
        return result

    def now(self) -> int:
        """Return the bytes alive now."""
        self._alive = {k: v for k, v in self._alive.items() if not v[0].expired()}
        return sum(nbytes for _, nbytes in self._alive.values())


class _FusedAttention(torch.autograd.Function):
    """Attention as flash kernels keep it: no matrix of all pairs."""

    @staticmethod
    def forward(context: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        output = query.new_empty((*query.shape[:-1], value.shape[-1]))
        context.save_for_backward(query, key, value, output)
        return output

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Any:
        query, key, value, _ = context.saved_tensors
        return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)


def _fused(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> Tensor:
    return _FusedAttention.apply(query, key, value)  # type: ignore[no-any-return, no-untyped-call]


def weights(module: Any) -> int:
    """Return the number of parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def flops(call: Callable[[], Any]) -> float:
    """Return the floating point operations of a call, without gradients."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        call()
    return float(counter.get_total_flops())


def polynomial(call: Callable[[int], Any], sides: tuple[int, int, int], check: int) -> list[float]:
    """Return c0, c1, c2 of FLOPs over the pixels side^2; raise if a fourth side does not fit."""
    pixels = np.array([side**2 for side in sides], dtype=np.float64)
    counted = np.array([flops(lambda s=side: call(s)) for side in sides])  # type: ignore[misc]
    quadratic, linear, constant = np.polyfit(pixels, counted, 2)
    at = float(check**2)
    expected, got = constant + linear * at + quadratic * at**2, flops(lambda: call(check))
    if abs(got / expected - 1) > 1e-3:
        raise SystemExit(f"FLOPs are no such polynomial: {got} counted, {expected} expected")
    return [float(f"{c:.6g}") for c in (constant, linear, quadratic)]


def peak(call: Callable[[], Any]) -> int:
    """Return the most activation bytes alive during a call without gradients."""
    with LiveBytes() as live, torch.no_grad():
        call()
    return int(live.peak)


def kept(call: Callable[[], Any]) -> int:
    """Return the activation bytes alive when a backward pass would begin."""
    with LiveBytes() as live:
        result = call()
        alive = live.now()
    del result
    return int(alive)


def count_denoiser(unet: Any, text_width: int, sides: tuple[int, int, int, int]) -> dict[str, Any]:
    """Return the facts of a UNet, per image; `sides` are of the latents, the last a check."""
    unet.eval().half()
    added = None
    if unet.config.addition_embed_type == "text_time":
        added = {"text_embeds": torch.empty(1, 1280).half(), "time_ids": torch.empty(1, 6).half()}

    def call(side: int, extra: Any = None) -> Any:
        return unet(
            torch.empty(1, unet.config.in_channels, side, side).half(),
            torch.empty(1),
            torch.empty(1, 77, text_width).half(),
            added_cond_kwargs=added,
        ).sample

    facts: dict[str, Any] = {"parameters": weights(unet)}
    facts["flops"] = polynomial(call, sides[:3], sides[3])
    attention, functional.scaled_dot_product_attention = (
        functional.scaled_dot_product_attention, _fused,
    )  # fmt: skip
    side = sides[2]
    facts["inference_bytes_per_latent_px"] = peak(lambda: call(side)) / side**2
    from peft import LoraConfig

    unet.requires_grad_(False)
    targets = ["to_q", "to_k", "to_v", "to_out.0"]
    unet.add_adapter(LoraConfig(r=4, lora_alpha=4, target_modules=targets))
    facts["lora_parameters"] = sum(p.numel() for p in unet.parameters() if p.requires_grad)
    unet.half().train()
    facts["lora_training_bytes_per_latent_px"] = kept(lambda: call(side)) / side**2
    unet.enable_gradient_checkpointing()
    facts["lora_checkpointed_bytes_per_latent_px"] = kept(lambda: call(side)) / side**2
    functional.scaled_dot_product_attention = attention
    return facts


def count_autoencoder(vae: Any, sides: tuple[int, int, int, int]) -> dict[str, Any]:
    """Return the facts of an autoencoder, per image; `sides` in px, the last a check."""
    vae.eval().half()
    channels = vae.config.latent_channels
    shrink = 2 ** (len(getattr(vae.config, "block_out_channels", (1,) * 3)) - 1)

    def encode(side: int) -> Any:
        return vae.encode(torch.empty(1, 3, side, side).half())

    def decode(side: int) -> Any:
        return vae.decode(torch.empty(1, channels, side // shrink, side // shrink).half())

    facts: dict[str, Any] = {"parameters": weights(vae)}
    facts["encode_flops"] = polynomial(encode, sides[:3], sides[3])
    facts["decode_flops"] = polynomial(decode, sides[:3], sides[3])
    attention, functional.scaled_dot_product_attention = (
        functional.scaled_dot_product_attention, _fused,
    )  # fmt: skip
    facts["decode_bytes_per_px"] = peak(lambda: decode(sides[2])) / sides[2] ** 2
    functional.scaled_dot_product_attention = attention
    return facts


def sdxl_unet() -> Any:
    """Return the denoiser of SDXL base 1.0."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=128, cross_attention_dim=2048, block_out_channels=(320, 640, 1280),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=[5, 10, 20], transformer_layers_per_block=[1, 2, 10],
        use_linear_projection=True, addition_embed_type="text_time", addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=2816,
    )  # fmt: skip


def sdxl_text_encoder() -> Any:
    """Return the second text encoder of SDXL, OpenCLIP bigG."""
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    return CLIPTextModelWithProjection(
        CLIPTextConfig(hidden_size=1280, intermediate_size=5120, num_hidden_layers=32,
                       num_attention_heads=20, projection_dim=1280)
    )  # fmt: skip


def count_backbone(model: Any, size_px: int) -> dict[str, Any]:
    """Return the facts of an image classifier at its usual size, per image."""
    model.eval()
    facts: dict[str, Any] = {"parameters": weights(model), "size_px": size_px}
    image = torch.empty(1, 3, size_px, size_px)
    facts["flops"] = flops(lambda: model(image))
    attention, functional.scaled_dot_product_attention = (
        functional.scaled_dot_product_attention, _fused,
    )  # fmt: skip
    model.half().train()
    eight = torch.empty(8, 3, size_px, size_px).half()
    facts["training_bytes_per_px"] = kept(lambda: model(eight)) / 8 / size_px**2
    # as the VoG filter does it: eval mode, float32, frozen weights, gradients of the images
    model.float().eval().requires_grad_(False)
    seen = torch.empty(8, 3, size_px, size_px, requires_grad=True)
    facts["vog_bytes_per_px"] = kept(lambda: model(seen)) / 8 / size_px**2
    functional.scaled_dot_product_attention = attention
    return facts


def backbones() -> dict[str, Callable[[], dict[str, Any]]]:
    """Return the usual classifiers by hub id."""
    from transformers import (
        ConvNextConfig,
        ConvNextForImageClassification,
        ViTConfig,
        ViTForImageClassification,
    )

    return {
        "microsoft/resnet-50": lambda: count_backbone(architectures.resnet(FULL), 224),
        "google/vit-base-patch16-224": lambda: count_backbone(
            ViTForImageClassification(ViTConfig(num_labels=1000)), 224
        ),
        "facebook/convnext-tiny-224": lambda: count_backbone(
            ConvNextForImageClassification(ConvNextConfig(num_labels=1000)), 224
        ),
        "tiny-resnet": lambda: count_backbone(_tiny_resnet(), 32),
    }


def _tiny_resnet() -> Any:
    from gendataagent.config import ClassifierConfig
    from gendataagent.training.backbones import build_classifier

    config = ClassifierConfig(model="tiny-resnet", size_px=32)
    names = [str(i) for i in range(10)]
    with torch.device("cpu"):
        return build_classifier(config, names, seed=0, device="cpu").module.to("meta")


def _tiny_sd() -> dict[str, Any]:
    from diffusers import AutoPipelineForImage2Image

    from gendataagent.generation.tiny.model import model_folder

    with torch.device("cpu"):
        pipeline = AutoPipelineForImage2Image.from_pretrained(model_folder(), local_files_only=True)
    unet, vae = pipeline.unet.to("meta"), pipeline.vae.to("meta")
    width = unet.config.cross_attention_dim
    return {
        "unet": count_denoiser(unet, width, (4, 8, 16, 12)),
        "vae": count_autoencoder(vae, (16, 32, 64, 48)),
    }


def main() -> None:
    """Print all facts as JSON, one model after the other on standard error too."""
    parts: dict[str, Callable[[], Any]] = {
        "sd15": lambda: {
            "unet": count_denoiser(architectures.unet(FULL), 768, (32, 48, 64, 96)),
            "vae": count_autoencoder(architectures.autoencoder(FULL), (256, 384, 512, 768)),
            "text": weights(architectures.clip_text_encoder(FULL)),
        },
        "sdxl": lambda: {
            "unet": count_denoiser(sdxl_unet(), 2048, (64, 96, 128, 80)),
            "text_2": weights(sdxl_text_encoder()),
        },
        "tiny-sd": _tiny_sd,
        "blip2-opt-2.7b": lambda: _count_blip2(),
        "llama-2-7b": lambda: {"parameters": weights(architectures.llama(FULL))},
        **backbones(),
    }
    wanted = sys.argv[1:] or list(parts)
    facts = {}
    with torch.device("meta"):
        for name in wanted:
            facts[name] = parts[name]()
            print(name, json.dumps(facts[name]), file=sys.stderr, flush=True)
    print(json.dumps(facts, indent=2))


def _count_blip2() -> dict[str, Any]:
    model = architectures.blip2(FULL).eval()
    image = torch.empty(1, 3, 224, 224)
    return {
        "parameters": weights(model),
        "language_parameters": weights(model.language_model),
        "vision_flops": flops(lambda: model.vision_model(image)),
    }


if __name__ == "__main__":
    main()
