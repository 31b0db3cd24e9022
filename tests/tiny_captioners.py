"""Tiny real captioners: built from configs, seeded random weights, saved to disk.

They have the classes, processors and tokenizers of a user's model, so that the real
`from_pretrained` path runs. They answer with words of a small vocabulary in a few milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from packaging.version import Version

SIZE_PX = 16
_PATCH_PX = 8
_WIDTH = 16
_QUERIES = 3
PAD, BOS, EOS, UNKNOWN, IMAGE = "<pad>", "<s>", "</s>", "<unk>", "<image>"
_TILES = tuple(f"<row_{row}_col_{column}>" for row in (1, 2) for column in (1, 2))
_SPECIAL = (PAD, BOS, EOS, UNKNOWN, IMAGE, "<fake_token_around_image>", "<global-img>", *_TILES)
_TEXT = (
    "a an the of on in with and at one two small large brown white black red green blue grey cat "
    "dog bird horse grass water sky wall snow sitting standing running lying looking bright dark "
    "user : assistant describe what is this image photo , . ? fur feathers under near tree table"
)
WORDS = _TEXT.split()
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }} : {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image> {% else %}{{ part['text'] }} {% endif %}{% endfor %}"
    "{% endfor %}{% if add_generation_prompt %}assistant : {% endif %}"
)


def tokenizer(*, words: int = len(WORDS), starts_with: str = BOS, ends_with: str = "") -> Any:
    """Return a tokenizer of whole words: the special ones, then the first `words` of `WORDS`."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: number for number, word in enumerate((*_SPECIAL, *WORDS[:words]))}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(
        single=f"{starts_with} $A {ends_with}".strip(),
        special_tokens=[(token, vocabulary[token]) for token in (BOS, EOS)],
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token=PAD, bos_token=BOS, eos_token=EOS, unk_token=UNKNOWN,
        cls_token=BOS, sep_token=EOS,
    )  # fmt: skip
    fast.add_special_tokens({"additional_special_tokens": list(_SPECIAL[4:])})
    return fast


_VOCABULARY = len(_SPECIAL) + len(WORDS)
_IDS: dict[str, Any] = {
    "vocab_size": _VOCABULARY, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
_LAYERS: dict[str, Any] = {
    "hidden_size": _WIDTH, "intermediate_size": 32, "num_hidden_layers": 2,
    "num_attention_heads": 2,
}  # fmt: skip
_VISION: dict[str, Any] = {**_LAYERS, "image_size": SIZE_PX, "patch_size": _PATCH_PX}
_PIXELS: dict[str, Any] = {"size": {"height": SIZE_PX, "width": SIZE_PX}}


def _blip2() -> tuple[Any, Any]:
    from transformers import (
        Blip2Config,
        Blip2ForConditionalGeneration,
        Blip2Processor,
        BlipImageProcessorPil,
        OPTConfig,
    )

    text = OPTConfig(
        **_IDS, hidden_size=_WIDTH, ffn_dim=32, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=128, word_embed_proj_dim=_WIDTH,
    )  # fmt: skip
    qformer = {**_LAYERS, "vocab_size": _VOCABULARY, "encoder_hidden_size": _WIDTH}
    config = Blip2Config(
        vision_config=_VISION, qformer_config=qformer, text_config=text,
        num_query_tokens=_QUERIES, image_token_index=_SPECIAL.index(IMAGE),
    )  # fmt: skip
    model = Blip2ForConditionalGeneration(config)
    processor = Blip2Processor(
        BlipImageProcessorPil(**_PIXELS), tokenizer(), num_query_tokens=_QUERIES
    )
    return model, processor


def _blip() -> tuple[Any, Any]:
    from transformers import (
        BlipConfig,
        BlipForConditionalGeneration,
        BlipImageProcessorPil,
        BlipProcessor,
    )

    text = {**_IDS, **_LAYERS, "encoder_hidden_size": _WIDTH, "sep_token_id": 2,
            "max_position_embeddings": 128}  # fmt: skip
    model = BlipForConditionalGeneration(BlipConfig(text_config=text, vision_config=_VISION))
    return model, BlipProcessor(BlipImageProcessorPil(**_PIXELS), tokenizer(ends_with=EOS))


def _git() -> tuple[Any, Any]:
    from transformers import CLIPImageProcessorPil, GitConfig, GitForCausalLM, GitProcessor

    config = GitConfig(
        vision_config=_VISION, **_IDS, **_LAYERS, max_position_embeddings=128,
    )  # fmt: skip
    pixels = CLIPImageProcessorPil(size={"shortest_edge": SIZE_PX}, crop_size=_PIXELS["size"])
    return GitForCausalLM(config), GitProcessor(pixels, tokenizer(ends_with=EOS))


def _vit_gpt2() -> tuple[Any, Any]:
    from transformers import (
        GPT2Config,
        VisionEncoderDecoderConfig,
        VisionEncoderDecoderModel,
        ViTConfig,
        ViTImageProcessorPil,
    )

    text = GPT2Config(**_IDS, n_positions=128, n_embd=_WIDTH, n_layer=2, n_head=2)
    config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(ViTConfig(**_VISION), text)
    config.decoder_start_token_id, config.pad_token_id, config.eos_token_id = 1, 0, 2
    model = VisionEncoderDecoderModel(config)
    model.generation_config.decoder_start_token_id = 1
    return model, (ViTImageProcessorPil(**_PIXELS), tokenizer())


def _llava() -> tuple[Any, Any]:
    from transformers import (
        CLIPImageProcessorPil,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**_VISION),
        text_config=LlamaConfig(**_IDS, **_LAYERS, max_position_embeddings=512),
        image_token_index=_SPECIAL.index(IMAGE), vision_feature_layer=-1,
    )  # fmt: skip
    pixels = CLIPImageProcessorPil(size={"shortest_edge": SIZE_PX}, crop_size=_PIXELS["size"])
    processor = LlavaProcessor(
        pixels, tokenizer(), patch_size=_PATCH_PX, vision_feature_select_strategy="default",
        num_additional_image_tokens=1, chat_template=CHAT_TEMPLATE,
    )  # fmt: skip
    return LlavaForConditionalGeneration(config), processor


def skip_without_torchvision() -> None:
    """Skip a test of what transformers 5.6 to 5.17 have only where torchvision is installed."""
    if Version(transformers.__version__) < Version("5.18"):
        pytest.importorskip("torchvision")


def _idefics3() -> tuple[Any, Any]:
    """The architecture of SmolVLM: the number of tiles depends on the shape of the image."""
    skip_without_torchvision()
    from transformers import (
        Idefics3Config,
        Idefics3ForConditionalGeneration,
        Idefics3ImageProcessorPil,
        Idefics3Processor,
        LlamaConfig,
    )

    config = Idefics3Config(
        vision_config=_VISION,
        text_config=LlamaConfig(**_IDS, **_LAYERS, max_position_embeddings=512),
        image_token_id=_SPECIAL.index(IMAGE), scale_factor=2, pad_token_id=0,
    )  # fmt: skip
    pixels = Idefics3ImageProcessorPil(
        size={"longest_edge": 2 * SIZE_PX}, max_image_size={"longest_edge": SIZE_PX}
    )
    processor = Idefics3Processor(pixels, tokenizer(), image_seq_len=1, chat_template=CHAT_TEMPLATE)
    return Idefics3ForConditionalGeneration(config), processor


FAMILIES: Mapping[str, Callable[[], tuple[Any, Any]]] = {
    "blip2": _blip2, "blip": _blip, "git": _git, "vit-gpt2": _vit_gpt2, "llava": _llava,
    "idefics3": _idefics3,
}  # fmt: skip
CHATTING = ("llava", "idefics3")


def save_tiny_captioner(folder: Path, family: str, *, seed: int = 5) -> Path:
    """Save a captioner of `family` with processor and tokenizer to `folder`; return the folder."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, parts = FAMILIES[family]()
        # With the initial weights all images would get one caption.
        for weight in model.parameters():
            if weight.ndim > 1:
                torch.nn.init.normal_(weight, std=0.5)
    model.save_pretrained(folder)
    for part in parts if isinstance(parts, tuple) else (parts,):
        part.save_pretrained(folder)
    return folder
