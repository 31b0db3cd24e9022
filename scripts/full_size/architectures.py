"""The paper's models with random weights, built from `configs.toml`: no model hub is needed."""

from __future__ import annotations

import contextlib
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

CONFIGS = tomllib.loads(Path(__file__).with_name("configs.toml").read_text(encoding="utf-8"))
PX: dict[str, dict[str, int]] = {  # side of an image
    "full": {"generator": 512, "captioner": 224, "classifier": 224},
    "tiny": {"generator": 32, "captioner": 28, "classifier": 32},
}
# The tokens after the 256 bytes; a random model gives them no meaning.
_SPECIALS = ("<|startoftext|>", "<|endoftext|>", "<pad>", "<image>")
_IDS = {"bos_token_id": 256, "eos_token_id": 257, "pad_token_id": 258}
_CHAT = "{% for message in messages %}[{{ message['role'] }}] {{ message['content'] }}{% endfor %}"


def config_of(scale: str, part: str) -> dict[str, Any]:
    """Return the config of a part, with the ids of the tokenizer's special tokens."""
    config: dict[str, Any] = CONFIGS["full"][part]
    if "_class_name" in config or part == "resnet":
        return config | (CONFIGS["tiny"][part] if scale == "tiny" else {})
    narrow = CONFIGS["tiny"]["transformer"] if scale == "tiny" else {}
    inner = {key: value | narrow for key, value in config.items() if isinstance(value, dict)}
    if inner:
        inner["text_config"] |= _IDS
        return config | inner | {"image_token_index": 256 + _SPECIALS.index("<image>")}
    return config | narrow | _IDS


def build(config: dict[str, Any]) -> Any:
    """Return the model of a config.json: of diffusers by `_class_name`, else of transformers."""
    if "_class_name" in config:
        return getattr(diffusers, config["_class_name"]).from_config(config)
    cls = getattr(transformers, config["architectures"][0])
    return cls(transformers.AutoConfig.for_model(**config))


def save_diffusion(scale: str, folder: Path) -> None:
    """Save a complete `StableDiffusionPipeline`."""
    text = config_of(scale, "text_encoder")
    diffusers.StableDiffusionPipeline(
        unet=build(config_of(scale, "unet")),
        vae=build(config_of(scale, "vae")),
        text_encoder=build(text),
        tokenizer=_tokenizer(text["vocab_size"], 77),
        scheduler=diffusers.PNDMScheduler(  # as SD 1.5 is published
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1,
            skip_prk_steps=True, set_alpha_to_one=False,
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)  # fmt: skip


def save_captioner(scale: str, folder: Path) -> None:
    """Save BLIP-2 with its processor."""
    # The Pillow one by name: without torchvision the other warns and falls back to it.
    from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

    config = config_of(scale, "blip2")
    build(config).save_pretrained(folder)
    side = PX[scale]["captioner"]
    images = BlipImageProcessorPil(size={"height": side, "width": side})
    words = _tokenizer(config["text_config"]["vocab_size"], 4096)
    transformers.Blip2Processor(images, words, num_query_tokens=32).save_pretrained(folder)


def save_language_model(scale: str, folder: Path) -> None:
    """Save Llama with a tokenizer that has a chat template."""
    config = config_of(scale, "llama")
    build(config).save_pretrained(folder)
    tokenizer = _tokenizer(config["vocab_size"], 4096)
    tokenizer.chat_template = _CHAT
    tokenizer.save_pretrained(folder)


def save_classifier(scale: str, folder: Path) -> None:
    """Save ResNet-50 with its image processor."""
    from transformers.models.convnext.image_processing_pil_convnext import ConvNextImageProcessorPil

    build(config_of(scale, "resnet")).save_pretrained(folder)
    size = {"shortest_edge": PX[scale]["classifier"]}
    ConvNextImageProcessorPil(size=size).save_pretrained(folder)


SAVE: dict[str, Callable[[str, Path], None]] = {
    "sd": save_diffusion,
    "blip2": save_captioner,
    "llama": save_language_model,
    "resnet": save_classifier,
}


@contextlib.contextmanager
def random_weights(device: str, dtype: torch.dtype) -> Iterator[None]:
    """Make the modules built inside from seed 0, in place: no full copy in float32 is needed."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.random.fork_rng(devices=[]), torch.device(device):
            torch.manual_seed(0)
            yield
    finally:
        torch.set_default_dtype(before)


def _tokenizer(size: int, longest: int) -> Any:
    """Return a tokenizer that reads bytes and can write `size` tokens."""
    tokens = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *_SPECIALS]
    tokens += [f"\u0120word{n}" for n in range(len(tokens), size)]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    start, end, pad, image = _SPECIALS
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=start, eos_token=end, pad_token=pad,
        additional_special_tokens=[image], model_max_length=longest,
    )  # fmt: skip
