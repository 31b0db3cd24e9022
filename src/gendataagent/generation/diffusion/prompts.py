"""How many tokens of a prompt a generator reads: its text encoders truncate longer ones."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gendataagent.core import hub
from gendataagent.core.files import parse_others_json, read_bytes
from gendataagent.generation.diffusion.mirrors import with_mirrors
from gendataagent.generation.diffusion.spec import DiffusionSpec
from gendataagent.generation.prompts import PROMPT_FORMAT

NO_LIMIT = sys.maxsize
_MAX_LIMIT = 1 << 20  # tokenizers without a limit report 10**30
_BEFORE_CLASS_NAME, _, _AFTER_CLASS_NAME = PROMPT_FORMAT.partition("{class_name}")
_BEFORE_CAPTION = _AFTER_CLASS_NAME.partition("{caption}")[0]


@dataclass(frozen=True, slots=True)
class TokenCounter:
    """Counts a text's tokens, including the start and end tokens; picklable.

    Of several tokenizers (SDXL has two, SD 3 three) only those with the lowest limit are used; the
    highest of their counts is returned.
    """

    tokenizers: tuple[Any, ...]
    limit: int

    @classmethod
    def of(cls, tokenizers: Sequence[Any]) -> TokenCounter:
        """Return the counter of these tokenizers."""
        limits = [int(tokenizer.model_max_length) for tokenizer in tokenizers]
        known_limits = [limit for limit in limits if limit <= _MAX_LIMIT]
        limit = min(known_limits, default=NO_LIMIT)
        strictest = [t for t, its in zip(tokenizers, limits, strict=True) if its == limit]
        return cls(tuple(strictest), limit)

    @classmethod
    def of_pipeline(cls, pipeline: Any) -> TokenCounter:
        """Return the counter of a loaded pipeline."""
        names = sorted(name for name in pipeline.components if name.startswith("tokenizer"))
        tokenizers = [pipeline.components[name] for name in names]
        return cls.of([tokenizer for tokenizer in tokenizers if tokenizer is not None])

    def __call__(self, text: str) -> int:
        return max((len(t(text, verbose=False)["input_ids"]) for t in self.tokenizers), default=0)


def token_limit(spec: DiffusionSpec) -> tuple[Callable[[str], int], int]:
    """Return a function that counts a prompt's tokens, and the most tokens the generator reads.

    Only the tokenizers are loaded, no weights; for a hub model that is not on this machine only
    their files are downloaded. The limit is `NO_LIMIT` if there is none.

    Raises:
        ModelError: they cannot be loaded; the message says what to do.
    """
    counter = hub.load_first(with_mirrors(spec.source), _load_tokenizers)[1]
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
    """Return the components listed in model_index.json: name -> [library, class]."""
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
    parts: dict[str, Any] = parse_others_json(read_bytes(path))
    return {name: part for name, part in parts.items() if isinstance(part, list)}


def truncates_class_name(prompt: str, count_tokens: TokenCounter) -> bool:
    """Return whether truncation cuts into the class name of a prompt.

    The class name leads the prompt [S], so normally only the caption is truncated. In a prompt of
    any other form the class name cannot be found; it counts as not truncated.
    """
    if not prompt.startswith(_BEFORE_CLASS_NAME):
        return False
    return count_tokens(prompt.partition(_BEFORE_CAPTION)[0]) > count_tokens.limit
