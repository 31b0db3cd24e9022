"""A tiny real Llama with a byte-level tokenizer: random weights, saved to disk.

Its chat template and control tokens are those of SmolLM2, so captions must not contain the same
tokens.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<file_sep>", "[INST]", "</s>")
CHAT_TEMPLATE = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] "
    "+ '<|im_end|>' + '\\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def save_tiny_llama(
    folder: Path, *, chat_template: str | None = CHAT_TEMPLATE, context: int = 4096, seed: int = 0
) -> Path:
    """Save a `LlamaForCausalLM` of about 30,000 weights and its tokenizer to `folder`; return it.

    It writes noise: any byte after any other.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = byte_tokenizer(chat_template)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(tokenizer),
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=2,
                max_position_embeddings=context,
                initializer_range=0.5,
                bos_token_id=tokenizer.convert_tokens_to_ids("<|im_start|>"),
                eos_token_id=tokenizer.convert_tokens_to_ids("<|im_end|>"),
                tie_word_embeddings=False,
            )
        )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def byte_tokenizer(chat_template: str | None = CHAT_TEMPLATE) -> Any:
    """Return a tokenizer with one token per byte, one for "th", and control tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "th"]
    core = Tokenizer(
        models.BPE(
            vocab={letter: number for number, letter in enumerate(alphabet)}, merges=[("t", "h")]
        )
    )
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=list(CONTROL[3:]),
        model_max_length=4096,
    )
    tokenizer.chat_template = chat_template
    return tokenizer


def save_as_gguf(
    folder: Path, file: Path, *, without: str = "", extra: Mapping[str, Any] | None = None
) -> Path:
    """Write the Llama of `save_tiny_llama` as a GGUF file, as llama.cpp's converter does.

    Args:
        without: part of the names of tensors to leave out.
        extra: further tensors, by llama.cpp's names.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    gguf = importlib.import_module("gguf")  # optional
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    config = model.config
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_vocab_size(config.vocab_size)
    tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in CONTROL else 1 for token in tokens])
    writer.add_token_merges(["t h", "t h"])  # transformers 5.6 does not read a list of one
    writer.add_bos_token_id(config.bos_token_id)
    writer.add_eos_token_id(config.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_chat_template(CHAT_TEMPLATE)
    for name, weights in model.state_dict().items():
        if without and without in name:
            continue
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
        for part, count in heads.items():
            if part in name:  # llama.cpp orders the halves of each rotation differently
                pairs = weights.view(count, 2, -1, weights.shape[1])
                weights = pairs.transpose(1, 2).reshape(weights.shape)
        writer.add_tensor(_gguf_name(name), weights.float().numpy())
    for name, numbers in (extra or {}).items():
        writer.add_tensor(name, numbers)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def _gguf_name(name: str) -> str:
    for ours, theirs in (
        ("model.embed_tokens", "token_embd"), ("model.norm", "output_norm"), ("lm_head", "output"),
        ("model.layers", "blk"), ("self_attn.q_proj", "attn_q"), ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"), ("self_attn.o_proj", "attn_output"),
        ("mlp.gate_proj", "ffn_gate"), ("mlp.up_proj", "ffn_up"), ("mlp.down_proj", "ffn_down"),
        ("post_attention_layernorm", "ffn_norm"), ("input_layernorm", "attn_norm"),
    ):  # fmt: skip
        name = name.replace(ours, theirs)
    return name
