"""Stage 2: a CLIPTokenizer for the captions' vocabulary, and the training prompts.

Every word of the vocabulary is one token; any other string is tokenised byte by byte.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from pathlib import Path

from cifar10 import CLASS_NAMES
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from gendataagent.generation.tiny.vocabulary import (
    MEANING,
    PHRASES_AT_MOST,
    SEPARATOR,
    WORDINGS,
    Attributes,
    caption_of,
)

PROMPT_TOKENS = 48
NEGATIVE_PROMPT = "distorted, unrealistic, blurry, out of frame"
START, END = "<|startoftext|>", "<|endoftext|>"
WORD_END = "</w>"

# Shares of the training prompts. The unconditional branch of classifier-free guidance is trained
# on the empty prompt and on the standard negative prompt, so that either works at inference.
EMPTY_SHARE = 0.05
NEGATIVE_SHARE = 0.05
CLASS_ONLY_SHARE = 0.08
CANONICAL_SHARE = 0.4
PARAPHRASE_SHARE = 0.4


def training_prompt(class_name: str, attributes: Attributes, rng: random.Random) -> str:
    """One random prompt for an image."""
    dice = rng.random()
    if dice < EMPTY_SHARE:
        return ""
    if dice < EMPTY_SHARE + NEGATIVE_SHARE:
        return NEGATIVE_PROMPT
    if dice < EMPTY_SHARE + NEGATIVE_SHARE + CLASS_ONLY_SHARE:
        return f"A photo of {class_name}"
    return f"A photo of {class_name}, which is {_training_caption(attributes, rng)}"


def _training_caption(attributes: Attributes, rng: random.Random) -> str:
    """The canonical caption, or a random subset in random order and wording."""
    if rng.random() < CANONICAL_SHARE:
        return caption_of(attributes)
    named = list(attributes.named().items())
    rng.shuffle(named)
    kept = named[: rng.randint(1, PHRASES_AT_MOST)]
    phrases = []
    for name, value in kept:
        wordings = WORDINGS[name][value]
        phrases.append(rng.choice(wordings) if rng.random() < PARAPHRASE_SHARE else wordings[0])
    return SEPARATOR.join(phrases)


def vocabulary_texts() -> list[str]:
    """Texts that contain every word the generator is trained on."""
    return ["A photo of , which is", NEGATIVE_PROMPT, *CLASS_NAMES, *MEANING]


def build_tokenizer(texts: Iterable[str]) -> CLIPTokenizer:
    """A byte-level BPE tokenizer in CLIP's layout in which every word of `texts` is one token."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = _word_merges(texts, alphabet)
    tokens = [*alphabet, *(letter + WORD_END for letter in alphabet)]
    tokens += ["".join(pair) for pair in merges]
    tokens = list(dict.fromkeys([*tokens, START, END]))
    vocabulary = {token: index for index, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=PROMPT_TOKENS)


def _word_merges(texts: Iterable[str], alphabet: list[str]) -> list[tuple[str, str]]:
    """Byte-pair merges, learned until each word is one token."""
    learner = Tokenizer(models.BPE(end_of_word_suffix=WORD_END))
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=20_000,
        min_frequency=1,
        initial_alphabet=alphabet,
        end_of_word_suffix=WORD_END,
        show_progress=False,
    )
    learner.train_from_iterator([text.lower() for text in texts], trainer)
    return [(first, second) for first, second in json.loads(learner.to_str())["model"]["merges"]]


def save_tokenizer(tokenizer: CLIPTokenizer, folder: Path) -> None:
    """save_pretrained, plus vocab.json and merges.txt, which transformers 4 reads."""
    tokenizer.save_pretrained(folder)
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"], ensure_ascii=False))
    lines = ["#version: 0.2", *(" ".join(pair) for pair in model["merges"])]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n")
