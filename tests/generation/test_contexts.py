"""A context is the caption of any image, drawn by seed, and names no other class."""

from __future__ import annotations

from collections import Counter

import pytest

from gendataagent.config import RunConfig
from gendataagent.core.errors import ConfigError
from gendataagent.core.protocols import RewriteRequest
from gendataagent.generation.contexts import OtherContexts

CLASSES = ("cat", "dog")


def drawn(seeds: range, *contexts: str) -> list[str]:
    request = RewriteRequest(
        caption="own", class_name="cat", seeds=tuple(seeds), class_names=CLASSES, contexts=contexts
    )
    (rewrites,) = OtherContexts().rewrite([request])
    return [rewrite.text for rewrite in rewrites]


def test_every_context_is_equally_likely() -> None:
    counts = Counter(drawn(range(3000), "on grass", "in snow", "seen from behind"))
    assert set(counts) == {"on grass", "in snow", "seen from behind"}
    assert min(counts.values()) > 900


def test_the_seed_alone_decides() -> None:
    contexts = ("on grass", "in snow", "at sea", "from above")
    assert drawn(range(8), *contexts) == drawn(range(4), *contexts) + drawn(range(4, 8), *contexts)


def test_none_that_names_another_class_and_none_that_is_empty() -> None:
    assert set(drawn(range(200), "a dog on grass", "", "a cat on a sofa", "in snow")) == {
        "a cat on a sofa", "in snow",
    }  # fmt: skip
    assert drawn(range(2), "a dog", "two dogs") == ["", ""]
    assert drawn(range(2)) == ["", ""]


def test_contexts_need_a_captioner() -> None:
    with pytest.raises(ConfigError, match=r"prompting\.captioner = none writes no captions"):
        RunConfig.from_dict({"prompting": {"captioner": "none", "rewriter": "contexts"}})
