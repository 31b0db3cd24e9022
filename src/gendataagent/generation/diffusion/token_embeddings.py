"""Further words for the text encoders of a pipeline, each of vectors of its own.

Letters in tensor names: B prompts, L tokens, C words, V vectors that make up a word, D width.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gendataagent.core.errors import ModelError
from gendataagent.generation.diffusion.class_tokens import PARTS, SETTING, ClassTokens

_LEGACY_EOS = 2  # of a CLIP that takes the largest id of a prompt for its end


class TokenEmbedding(nn.Module):
    """The input embedding of a text encoder, with rows of further words.

    Only the words in use pass gradients: an optimiser leaves the others as they are.

    Args:
        plain: the embedding as it was.
        first: id of the first further token; those of a word follow each other.
        words_VD: the vectors of each word, in the order of their ids.
    """

    def __init__(self, plain: nn.Module, first: int, words_VD: Sequence[Tensor]) -> None:
        super().__init__()
        self.plain = plain  # first: the dtype of an encoder is that of its first parameter
        self.words = nn.ParameterList(nn.Parameter(word_VD) for word_VD in words_VD)
        self._first = first

    @property
    def weight(self) -> Tensor:
        """The rows of the plain words."""
        weight = self.plain.weight
        assert isinstance(weight, Tensor)
        return weight

    def forward(self, ids_BL: Tensor) -> Tensor:
        """Return the embedding of each token, [B, L, D]."""
        is_new_BL = ids_BL >= self._first
        rows_BLD: Tensor = self.plain(ids_BL.masked_fill(is_new_BL, 0))
        if not is_new_BL.any():
            return rows_BLD
        vectors = len(self.words[0])
        new = (ids_BL[is_new_BL] - self._first).tolist()
        used = sorted({each // vectors for each in new})
        place = {word: number for number, word in enumerate(used)}
        used_ND = torch.cat([self.words[word] for word in used]).to(rows_BLD)
        rows = [place[each // vectors] * vectors + each % vectors for each in new]
        filled_BLD = rows_BLD.clone()
        filled_BLD[is_new_BL] = used_ND[rows]
        return filled_BLD


class AddedTokens:
    """Words added to the tokenizers and text encoders of a pipeline; `remove` undoes it.

    Args:
        vectors: text encoder -> word -> its vectors, [V, D]; the same words for each.

    Raises:
        ModelError: the pipeline cannot have further words.
    """

    def __init__(self, pipeline: Any, vectors: Mapping[str, Mapping[str, Tensor]]) -> None:
        check_takes_tokens(pipeline)
        self._pipeline = pipeline
        self._before: list[tuple[Any, str, Any]] = []
        self.embeddings: dict[str, TokenEmbedding] = {}
        try:
            for part, of_part in vectors.items():
                self._add(part, of_part)
        except ModelError:
            self.remove()
            raise

    def _add(self, part: str, vectors: Mapping[str, Tensor]) -> None:
        encoder, name = getattr(self._pipeline, part), part.replace("text_encoder", "tokenizer")
        tokenizer = copy.deepcopy(getattr(self._pipeline, name))
        first = len(tokenizer)
        # diffusers replaces a word of several vectors by its parts, which it finds by these names
        tokens = [
            word if number == 0 else f"{word}_{number}"
            for word, of_word in vectors.items()
            for number in range(len(of_word))
        ]
        tokenizer.add_tokens(tokens)
        ids = tokenizer.convert_tokens_to_ids(tokens)
        plain = encoder.get_input_embeddings()
        if ids != list(range(first, first + len(ids))):
            raise ModelError(
                f"{SETTING}: the tokenizer of the generator has one of the words already, such as "
                f"{tokens[0]}; give the class another name"
            )
        self._set(self._pipeline, name, tokenizer)
        for module in encoder.modules():
            if getattr(module, "eos_token_id", None) == _LEGACY_EOS:
                self._set(module, "eos_token_id", tokenizer.eos_token_id)
        self.embeddings[part] = TokenEmbedding(plain, first, list(vectors.values()))
        encoder.set_input_embeddings(self.embeddings[part])

    def _set(self, owner: Any, name: str, value: Any) -> None:
        self._before.append((owner, name, getattr(owner, name)))
        setattr(owner, name, value)

    def remove(self) -> None:
        """Restore tokenizers and text encoders; calling it twice is harmless."""
        for part, embedding in self.embeddings.items():
            getattr(self._pipeline, part).set_input_embeddings(embedding.plain)
        for owner, name, value in reversed(self._before):
            setattr(owner, name, value)
        self.embeddings, self._before = {}, []


def text_parts(pipeline: Any) -> tuple[str, ...]:
    """Return the names of the text encoders of a pipeline."""
    return tuple(part for part in PARTS if getattr(pipeline, part, None) is not None)


def check_takes_tokens(pipeline: Any) -> None:
    """Raise `ModelError` unless each text encoder is a CLIP, beside a UNet."""
    kinds = {name: type(part).__name__ for name, part in pipeline.components.items()
             if name.startswith("text_encoder") and part is not None}  # fmt: skip
    others = sorted(kind for kind in kinds.values() if not kind.startswith("CLIPText"))
    kind = type(pipeline).__name__
    if getattr(pipeline, "unet", None) is None or not kinds or others:
        reads = f"reads prompts by {', '.join(others)}" if others else "has no UNet with a CLIP"
        raise ModelError(
            f"generation.generator: a {kind} {reads} and cannot learn words for classes (textual "
            "inversion); name a Stable Diffusion 1, 2 or XL, or set adaptation.kind=lora and leave "
            f"{SETTING} empty"
        )


def check_tokens_fit(pipeline: Any, tokens: ClassTokens) -> None:
    """Raise `ModelError` if words were learned for another kind of pipeline."""
    check_takes_tokens(pipeline)
    parts = text_parts(pipeline)
    takes = {part: getattr(pipeline, part).config.hidden_size for part in parts}
    if takes != dict(tokens.widths):
        raise ModelError(
            f"{SETTING}: {tokens.path} was made for another generator: it holds vectors of "
            f"{_shown(tokens.widths)}, this {type(pipeline).__name__} takes {_shown(takes)}"
        )


def _shown(widths: Mapping[str, int]) -> str:
    return " and ".join(f"{width} numbers for {part}" for part, width in sorted(widths.items()))


def add_class_tokens(pipeline: Any, tokens: ClassTokens) -> AddedTokens:
    """Add the words of a file to a loaded pipeline.

    Raises:
        ModelError: they are for another pipeline, or not finite.
    """
    from safetensors.torch import load_file

    check_tokens_fit(pipeline, tokens)
    stored, words = load_file(tokens.path), tokens.token_of
    for key, vectors_VD in stored.items():
        if not torch.isfinite(vectors_VD).all():
            raise ModelError(
                f"{SETTING}: {tokens.path} has numbers that are not finite, in {key!r}; run "
                "gendataagent adapt again"
            )
    added = AddedTokens(
        pipeline,
        {
            part: {words[name]: stored[f"{part}:{name}"] for name in tokens.classes}
            for part in tokens.widths
        },
    )
    for embedding in added.embeddings.values():
        embedding.words.requires_grad_(False)
    return added
