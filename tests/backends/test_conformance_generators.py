"""Bundled and plain captioners and rewriters, and every kind of generator, keep the contract."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.backends.conformance import check_captioner, check_generator, check_rewriter

from gendataagent.backends.diffusion import DiffusionFactory
from gendataagent.backends.plain import NoCaption, SameCaption
from gendataagent.backends.tiny.captioner import AttributeCaptioner
from gendataagent.backends.tiny.rewriter import AttributeRewriter
from gendataagent.protocols import Captioner, PromptRewriter


@pytest.mark.parametrize("make", [AttributeCaptioner, NoCaption])
def test_captioners(make: Callable[[], Captioner]) -> None:
    check_captioner(make)


@pytest.mark.parametrize("make", [AttributeRewriter, SameCaption])
def test_rewriters(make: Callable[[], PromptRewriter]) -> None:
    check_rewriter(make)


def test_stable_diffusion(tiny_pipeline_folder: Path) -> None:
    check_generator(DiffusionFactory(model=str(tiny_pipeline_folder)))
