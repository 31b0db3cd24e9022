"""Facts on models and devices that a plan needs without loading either.

They are in `facts.toml`. `scripts/full_size/count.py` counts models from their architectures and
writes there; a multiply-add is two FLOPs. By hand in that file are facts on the published files
(`stored_bytes`, `stored_parameters`, `variants`, `gated`) and GPUs: dense half-precision tensor
rates with float32 accumulation and memory bandwidths from the vendors' data sheets.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

GB = 10**9
GIB = 2**30
FILE = Path(__file__).with_name("facts.toml")

Polynomial = tuple[float, float, float]
"""FLOPs of one image with n (latent) pixels: c0 + c1 n + c2 n^2; attention is the square."""


def at(polynomial: Polynomial, pixels: float) -> float:
    """Return the value of a polynomial of `Polynomial`'s form."""
    constant, linear, quadratic = polynomial
    return constant + linear * pixels + quadratic * pixels**2


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """Size of a model, and of its published files.

    Args:
        stored_parameters: weights in the published files where these hold some twice.
        stored_bytes: of a weight in the published files.
        variants: file variant -> bytes of a weight in it.
        gated: whether its terms have to be accepted before a download.
    """

    parameters: int
    stored_parameters: int = 0
    stored_bytes: int = 4
    variants: Mapping[str, int] = field(default_factory=dict)
    gated: bool = False

    def download_bytes(self, variant: str = "") -> int:
        """Return the size of the weights to download."""
        stored = self.variants.get(variant, self.stored_bytes)
        return (self.stored_parameters or self.parameters) * stored


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratorFacts(ModelFacts):
    """A latent diffusion model. Bytes are activations in float16 with fused attention.

    Args:
        parameters: of the pipeline, a published safety checker included.
        size_px, shrink: side of an image; side of an image / side of its latent.
        unet_flops: one forward pass, of the latent pixels; encode_flops, decode_flops: of pixels.
        unet_bytes, decode_bytes: peak of a forward pass, per latent pixel and per pixel.
        decode_kept_bytes: alive when the backward pass through a frozen decoder to its latent
            begins, per pixel.
        kept_bytes, checkpointed_bytes: alive when LoRA training's backward pass begins, per latent
            pixel, without and with gradient checkpointing.
    """

    size_px: int
    shrink: int
    unet_parameters: int
    block_out_channels: list[int]
    cross_attention_dim: int
    unet_flops: Polynomial
    encode_flops: Polynomial
    decode_flops: Polynomial
    unet_bytes: float
    decode_bytes: float
    decode_kept_bytes: float
    kept_bytes: float
    checkpointed_bytes: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderFacts(ModelFacts):
    """A tiny autoencoder that decodes in place of the generator's: FLOPs of its pixels."""

    decode_flops: Polynomial


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlNetFacts(ModelFacts):
    """A ControlNet: FLOPs of one forward pass, of the latent pixels.

    Args:
        block_out_channels, cross_attention_dim: of the UNet that it is for.
    """

    block_out_channels: list[int]
    cross_attention_dim: int
    flops: Polynomial


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionerFacts(ModelFacts):
    """A captioner: one pass of its vision tower per image, then its language model per token."""

    language_parameters: int
    vision_flops: float
    prompt_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BackboneFacts(ModelFacts):
    """A classifier: FLOPs of a forward pass at `size_px`, proportional to the pixels.

    Args:
        kept_bytes: activations alive when the backward pass begins, per pixel, half precision.
        vog_bytes: the same for input gradients with frozen weights, float32.
    """

    size_px: int
    flops: float
    kept_bytes: float
    vog_bytes: float


Facts = TypeVar("Facts", bound=ModelFacts)


def _facts(cls: type[Facts], section: Mapping[str, dict[str, Any]]) -> dict[str, Facts]:
    """Return name -> facts of a section; `same_as` names a model of the same architecture."""
    found = {}
    for name, values in section.items():
        base = section.get(values.get("same_as", ""), {})
        found[name] = cls(**{k: v for k, v in (base | values).items() if k != "same_as"})
    return found


_TABLES = tomllib.loads(FILE.read_text(encoding="utf-8"))
GENERATORS = _facts(GeneratorFacts, _TABLES["generators"])
DECODERS = _facts(DecoderFacts, _TABLES["decoders"])
CONTROLNETS = _facts(ControlNetFacts, _TABLES["controlnets"])
CAPTIONERS = _facts(CaptionerFacts, _TABLES["captioners"])
BACKBONES = _facts(BackboneFacts, _TABLES["backbones"])
LANGUAGE_MODELS = _facts(ModelFacts, _TABLES["language_models"])
MODELS: dict[str, ModelFacts] = {
    **GENERATORS, **DECODERS, **CONTROLNETS, **CAPTIONERS, **BACKBONES, **LANGUAGE_MODELS,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """The device that a plan is for.

    Args:
        flops_per_s: peak, dense; for a CPU as measured.
        bytes_per_s: memory bandwidth, which limits the decoding of a language model.
        utilisation: share of the peak that is assumed to be reached.
    """

    name: str
    memory_bytes: float
    flops_per_s: float
    bytes_per_s: float
    utilisation: float
    is_gpu: bool = True


GPU_UTILISATION = 0.2
BANDWIDTH_UTILISATION = 0.6

GPUS: dict[str, tuple[float, float, float]] = _TABLES["gpus"]
"""(Part of) the driver's name -> memory in GiB (less error correction where cards are sold with it
on), dense half-precision TFLOP/s, GB/s."""

# One core of an AMD EPYC server, float32, by CPU time, 2026-11-25: 64 GFLOP/s training the small
# ResNet of that day, 78 in the UNet of tiny-sd.
CPU_FLOPS_PER_S_A_CORE = 60e9
CPU_BYTES_PER_S_A_CORE = 10e9


def find_gpu(name: str) -> Device | None:
    """Return the facts of a GPU by its usual name or the driver's; None for an unknown one."""
    words = _words(name)
    fits = [known for known in GPUS if _words(known) <= words]
    if not fits:
        return None
    memory_gib, tflops, gb_per_s = GPUS[max(fits, key=lambda known: len(_words(known)))]
    return Device(
        name=name,
        memory_bytes=memory_gib * GIB,
        flops_per_s=tflops * 1e12,
        bytes_per_s=gb_per_s * GB,
        utilisation=GPU_UTILISATION,
    )


def _words(name: str) -> set[str]:
    """Return the words of a GPU's name: "NVIDIA A100-SXM4-80GB" has a100 and 80gb."""
    text = re.sub(r"(\d+)\s*(gi?b)\b", r"\1gb", name.casefold())
    text = re.sub(r"\b(rtx)\s*(?=\d|a\d)", r"\1 ", text)
    return set(re.split(r"[^a-z0-9.]+", text)) - {""}


def cpu(cores: int, memory_bytes: float) -> Device:
    """Return the facts of a server CPU with `cores` cores."""
    return Device(
        name=f"CPU, {cores} cores",
        memory_bytes=memory_bytes,
        flops_per_s=cores * CPU_FLOPS_PER_S_A_CORE,
        bytes_per_s=cores * CPU_BYTES_PER_S_A_CORE,
        utilisation=1.0,
        is_gpu=False,
    )
