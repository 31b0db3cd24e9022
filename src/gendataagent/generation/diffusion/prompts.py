"""How much of a prompt a generator reads: text encoders cut what is too long at its end."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gendataagent.core import hub
from gendataagent.generation.diffusion import mirrors
from gendataagent.generation.diffusion.spec import DiffusionSpec
from gendataagent.generation.prompts import PROMPT_FORMAT

NO_LIMIT = sys.maxsize
_LONGEST_TOLD = 1 << 20  # tokenizers without a limit name 10**30
_BEFORE_NAME, _, _AFTER_NAME = PROMPT_FORMAT.partition("{class_name}")
_BEFORE_CAPTION = _AFTER_NAME.partition("{caption}")[0]


@dataclass(frozen=True, slots=True)
class TokenCounter:
    """Counts a text's tokens, those for start and end among them; picklable.

    Of several tokenizers (SDXL has two, SD3 three) those with the shortest limit count, and of
    these the one that finds most.
    """

    tokenizers: tuple[Any, ...]
    limit: int

    @classmethod
    def of(cls, tokenizers: Sequence[Any]) -> TokenCounter:
        """Return the counter of a pipeline's tokenizers."""
        limits = [int(tokenizer.model_max_length) for tokenizer in tokenizers]
        known_limits = [limit for limit in limits if limit <= _LONGEST_TOLD]
        limit = min(known_limits, default=NO_LIMIT)
        shortest = [t for t, its in zip(tokenizers, limits, strict=True) if its == limit]
        return cls(tuple(shortest), limit)

    def __call__(self, text: str) -> int:
        """Return the number of tokens of `text`."""
        return max((len(t(text, verbose=False)["input_ids"]) for t in self.tokenizers), default=0)


def token_counter_of(pipeline: Any) -> TokenCounter:
    """Return the counter of a loaded pipeline."""
    tokenizers = (pipeline.components.get(name) for name in sorted(pipeline.components)
                  if name.startswith("tokenizer"))  # fmt: skip
    return TokenCounter.of([tokenizer for tokenizer in tokenizers if tokenizer is not None])


def token_limit(spec: DiffusionSpec) -> tuple[Callable[[str], int], int]:
    """Return a function that counts a prompt's tokens, and how many the generator reads.

    Only the tokenizers are loaded, no weights; of a hub model that is not on this machine only
    their files are fetched. Without any limit it is `NO_LIMIT`.

    Raises:
        ModelError: with a sentence that says what to do.
    """
    counter = hub.load_first(list(mirrors.places(spec.source)), _load_tokenizers)[1]
    return counter, counter.limit


def _load_tokenizers(place: str, *, local_files_only: bool, **options: Any) -> TokenCounter:
    import transformers

    options["local_files_only"] = local_files_only
    parts = _parts_of(place, options)
    tokenizers = []
    for name in sorted(parts):
        if not name.startswith("tokenizer") or parts[name] == [None, None]:
            continue
        cls = getattr(transformers, str(parts[name][1]).removesuffix("Fast"), None)
        loader = cls or transformers.AutoTokenizer
        tokenizers.append(loader.from_pretrained(place, subfolder=name, **options))
    return TokenCounter.of(tokenizers)


def _parts_of(place: str, options: dict[str, Any]) -> dict[str, Any]:
    """Return what model_index.json says of a pipeline: name -> [library, class]."""
    path = Path(place) / "model_index.json"
    if not path.is_file():
        from huggingface_hub import hf_hub_download

        path = Path(
            hf_hub_download(
                place,
                "model_index.json",
                revision=options.get("revision"),
                local_files_only=options["local_files_only"],
            )
        )
    parts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return {name: part for name, part in parts.items() if isinstance(part, list)}


def loses_its_class(prompt: str, counter: TokenCounter) -> bool:
    """Return whether so much of a prompt is cut that its class is no longer told whole.

    The class name leads the prompt [S], so that it is the caption that is cut. Of a prompt that is
    not of that form nobody knows where the class stands: it is taken as it is.
    """
    if not prompt.startswith(_BEFORE_NAME):
        return False
    return counter(prompt.partition(_BEFORE_CAPTION)[0]) > counter.limit
