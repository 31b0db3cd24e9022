"""The classes of ImageNet: WordNet ids, names in words, and which belong to ImageNet-100."""

from __future__ import annotations

from functools import cache

from gendataagent.data.bundled import ASSETS


@cache
def imagenet_names() -> dict[str, str]:
    """Return {WordNet id: readable name} of the 1,000 classes of ImageNet, sorted by id.

    Names from the cleaned list of CLIP's authors (MIT), shortened where they contain brackets or
    alternatives.
    """
    return {row[0]: row[1] for row in _imagenet_table()}


@cache
def imagenet100_ids() -> tuple[str, ...]:
    """Return the 100 WordNet ids of ImageNet-100 (Tian et al. 2020), sorted."""
    return tuple(row[0] for row in _imagenet_table() if row[2] == "yes")


def _imagenet_table() -> list[list[str]]:
    text = (ASSETS / "imagenet-classes.tsv").read_text(encoding="utf-8")
    return [line.split("\t") for line in text.splitlines()[1:]]
