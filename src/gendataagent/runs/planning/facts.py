"""What is known of models and devices without loading either: sizes, FLOPs, bytes, rates.

Weights, FLOPs and activation bytes were counted from the architectures by
`scripts/full_size/count.py` (torch 2.13, diffusers 0.42, transformers 5.23; 2026-11-25); a
multiply-add is two FLOPs. Download sizes are weights times the bytes of the published files' number
type. GPU rates are dense half-precision tensor rates with float32
accumulation and memory bandwidths from the vendors' data sheets.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

GB = 10**9
GIB = 2**30
HALF_BYTES = 2

Polynomial = tuple[float, float, float]
"""FLOPs of one image with n (latent) pixels: c0 + c1 n + c2 n^2; attention is the square."""


def at(polynomial: Polynomial, pixels: float) -> float:
    """Return the value of a polynomial of `Polynomial`'s form."""
    constant, linear, quadratic = polynomial
    return constant + linear * pixels + quadratic * pixels**2


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """A latent diffusion model. Bytes are activations in float16 with fused attention.

    Args:
        shrink: sides of a image / sides of its latent.
        unet_flops: one forward pass, of the latent pixels; encode_flops, decode_flops: of pixels.
        other_parameters: text encoders, and the safety checker where one is published with it.
        kept_bytes, checkpointed_bytes: alive when LoRA training's backward pass begins, per latent
            pixel, without and with gradient checkpointing.
    """

    shrink: int
    size_px: int
    unet_parameters: int
    vae_parameters: int
    other_parameters: int
    unet_flops: Polynomial
    encode_flops: Polynomial
    decode_flops: Polynomial
    unet_bytes: float
    decode_bytes: float
    kept_bytes: float
    checkpointed_bytes: float

    @property
    def parameters(self) -> int:
        """All weights of the pipeline."""
        return self.unet_parameters + self.vae_parameters + self.other_parameters


_KL_ENCODE, _KL_DECODE = (0.0, 4_128_640.0, 0.5), (0.0, 9_461_060.0, 0.5)
_KL_BYTES = 1536.25

SD15 = Architecture(
    shrink=8,
    size_px=512,
    unet_parameters=859_520_964,
    vae_parameters=83_653_863,
    other_parameters=123_060_480 + 303_981_588,  # CLIP ViT-L/14: text half; safety checker
    unet_flops=(3.00777e9, 165_471_000.0, 7_301.25),
    encode_flops=_KL_ENCODE,
    decode_flops=_KL_DECODE,
    unet_bytes=16_677.7,
    decode_bytes=_KL_BYTES,
    kept_bytes=205_888.0,
    checkpointed_bytes=35_838.0,
)
SDXL = Architecture(
    shrink=8,
    size_px=1024,
    unet_parameters=2_567_463_684,
    vae_parameters=83_653_863,
    other_parameters=123_060_480 + 694_659_840,
    unet_flops=(5.2531e10, 363_592_000.0, 2_800.0),
    encode_flops=_KL_ENCODE,
    decode_flops=_KL_DECODE,
    unet_bytes=10_107.6,
    decode_bytes=_KL_BYTES,
    kept_bytes=366_045.0,
    checkpointed_bytes=28_347.5,
)
TINY_SD = Architecture(
    shrink=4,
    size_px=32,
    unet_parameters=9_935_432,
    vae_parameters=1_157_323,
    other_parameters=504_064,
    unet_flops=(32_309_200.0, 6_921_980.0, 192.0),
    encode_flops=(0.0, 165_312.0, 0.0),
    decode_flops=(0.0, 289_728.0, 0.0),
    unet_bytes=2_914.0,
    decode_bytes=258.0,
    kept_bytes=20_506.0,
    checkpointed_bytes=4_772.0,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedModel:
    """A model of the hub.

    Args:
        stored_bytes: of a weight in the published files.
        variants: file variant -> bytes of a weight in it.
        gated: whether its terms have to be accepted first.
    """

    parameters: int
    stored_bytes: int = 4
    variants: tuple[tuple[str, int], ...] = ()
    gated: bool = False

    def download_bytes(self, variant: str = "") -> int:
        """Return what loading it takes from the hub, weights only."""
        return self.parameters * dict(self.variants).get(variant, self.stored_bytes)


_HALF_TOO = (("fp16", HALF_BYTES),)

GENERATORS: dict[str, Architecture] = {
    "tiny-sd": TINY_SD,
    "stable-diffusion-v1-5/stable-diffusion-v1-5": SD15,
    "stabilityai/stable-diffusion-xl-base-1.0": SDXL,
    "stabilityai/sdxl-turbo": SDXL,
}

PUBLISHED: dict[str, PublishedModel] = {
    "stable-diffusion-v1-5/stable-diffusion-v1-5": PublishedModel(
        parameters=SD15.parameters, variants=_HALF_TOO
    ),
    "stabilityai/stable-diffusion-xl-base-1.0": PublishedModel(
        parameters=SDXL.parameters, variants=_HALF_TOO
    ),
    "stabilityai/sdxl-turbo": PublishedModel(parameters=SDXL.parameters, variants=_HALF_TOO),
    "Salesforce/blip2-opt-2.7b": PublishedModel(parameters=3_744_761_856),
    "meta-llama/Llama-2-7b-chat-hf": PublishedModel(
        parameters=6_738_415_616, stored_bytes=HALF_BYTES, gated=True
    ),
    "meta-llama/Llama-2-13b-chat-hf": PublishedModel(
        parameters=13_015_864_320, stored_bytes=HALF_BYTES, gated=True
    ),
    "HuggingFaceTB/SmolLM2-135M-Instruct": PublishedModel(
        parameters=134_515_008, stored_bytes=HALF_BYTES
    ),
    "HuggingFaceTB/SmolLM2-1.7B-Instruct": PublishedModel(
        parameters=1_711_376_384, stored_bytes=HALF_BYTES
    ),
    "Qwen/Qwen2.5-1.5B-Instruct": PublishedModel(parameters=1_543_714_304, stored_bytes=HALF_BYTES),
    "Salesforce/blip-image-captioning-base": PublishedModel(  # its files hold the word table twice
        parameters=247_414_076
    ),
    "microsoft/resnet-50": PublishedModel(parameters=25_557_032),
    "google/vit-base-patch16-224": PublishedModel(parameters=86_567_656),
    "facebook/convnext-tiny-224": PublishedModel(parameters=28_589_128),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionerFacts:
    """A captioner: one pass of its vision tower a image, then its language model word by word."""

    parameters: int
    language_parameters: int
    vision_flops: float
    prompt_tokens: int


CAPTIONERS: dict[str, CaptionerFacts] = {
    "Salesforce/blip2-opt-2.7b": CaptionerFacts(
        parameters=3_744_761_856,
        language_parameters=2_651_678_720,
        vision_flops=520_719_260_160.0,
        prompt_tokens=33,  # 32 queries of the Q-Former and the start
    ),
    "Salesforce/blip-image-captioning-base": CaptionerFacts(
        parameters=223_971_644,
        language_parameters=137_881_148,
        vision_flops=110_967_164_928.0,
        prompt_tokens=1,
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Backbone:
    """A classifier: FLOPs of a forward pass at `size_px`, growing with the pixels.

    Args:
        kept_bytes: activations alive when the backward pass begins, per pixel, half precision.
        vog_bytes: the same for input gradients with frozen weights, float32.
    """

    parameters: int
    size_px: int
    flops: float
    kept_bytes: float
    vog_bytes: float


BACKBONES: dict[str, Backbone] = {
    "microsoft/resnet-50": Backbone(
        parameters=25_557_032,
        size_px=224,
        flops=8.178368512e9,
        kept_bytes=866.65,
        vog_bytes=1700.61,
    ),
    "google/vit-base-patch16-224": Backbone(
        parameters=86_567_656,
        size_px=224,
        flops=3.5127656448e10,
        kept_bytes=1243.13,
        vog_bytes=1460.27,
    ),
    "facebook/convnext-tiny-224": Backbone(
        parameters=28_589_128,
        size_px=224,
        flops=8.911062528e9,
        kept_bytes=1083.44,
        vog_bytes=1137.48,
    ),
    "tiny-resnet": Backbone(
        parameters=686_090, size_px=32, flops=5.3284608e7, kept_bytes=339.41, vog_bytes=677.05
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """What work is planned for.

    Args:
        flops_per_s: peak, dense; for a CPU what was measured.
        bytes_per_s: memory bandwidth; what reading words off a language model waits for.
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

# name as the driver says it (in part) -> memory GiB (error correction on where cards come so),
# dense half-precision TFLOP/s, GB/s
_GPUS: dict[str, tuple[float, float, float]] = {
    "T4": (15, 65, 320),
    "V100 16GB": (16, 125, 900),
    "V100 32GB": (32, 125, 900),
    "V100": (16, 125, 900),
    "A10": (22.5, 125, 600),
    "A100 40GB": (40, 312, 1555),
    "A100 80GB": (80, 312, 2039),
    "A100": (40, 312, 1555),
    "L4": (22.5, 121, 300),
    "L40S": (45, 362, 864),
    "RTX 3090": (24, 71, 936),
    "RTX 4080": (16, 97.5, 717),
    "RTX 4090": (24, 165, 1008),
    "RTX 5090": (32, 209.5, 1792),
    "RTX A6000": (48, 155, 768),
    "RTX 6000 Ada": (48, 364, 960),
    "H100 PCIe": (80, 756, 2000),
    "H100": (80, 989, 3350),
    "H200": (141, 989, 4800),
    "B200": (180, 2250, 8000),
}

# One core of an AMD EPYC server, float32, by CPU time, 2026-11-25: 64 GFLOP/s training tiny-resnet,
# 78 in the UNet of tiny-sd.
CPU_FLOPS_PER_S_A_CORE = 60e9
CPU_BYTES_PER_S_A_CORE = 10e9


def known_gpus() -> list[str]:
    """Return the names `find_gpu` knows."""
    return list(_GPUS)


def find_gpu(name: str) -> Device | None:
    """Return the facts of a GPU by its usual name or the driver's, or None for one not known."""
    words = _words(name)
    fits = [known for known in _GPUS if _words(known) <= words]
    if not fits:
        return None
    best = max(fits, key=lambda known: len(_words(known)))
    memory_gib, tflops, gb_per_s = _GPUS[best]
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
    """Return the facts of this kind of CPU with `cores` cores."""
    return Device(
        name=f"CPU, {cores} cores",
        memory_bytes=memory_bytes,
        flops_per_s=cores * CPU_FLOPS_PER_S_A_CORE,
        bytes_per_s=cores * CPU_BYTES_PER_S_A_CORE,
        utilisation=1.0,
        is_gpu=False,
    )
