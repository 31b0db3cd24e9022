"""Bundled and plain captioners and rewriters, and every kind of generator, keep the contract."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from gendataagent.core.protocols import Captioner, PromptRewriter
from gendataagent.generation.diffusion import DiffusionFactory
from gendataagent.generation.plain import NoCaption, SameCaption
from gendataagent.generation.tiny.captioner import AttributeCaptioner
from gendataagent.generation.tiny.rewriter import AttributeRewriter
from tests.generation.conformance import (
    an_image_depends_on_its_request_alone,
    check_captioner,
    check_generator,
    check_rewriter,
    images_of_nothing_are_nothing,
    odd_requests_do_not_affect_the_others,
    pixels,
    render_request,
)
from tests.tiny_models import (
    save_tiny_flagging_sd,
    save_tiny_lcm,
    save_tiny_lora,
    save_tiny_sd3,
    save_tiny_sdxl,
)

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("make", [AttributeCaptioner, NoCaption])
def test_captioners(make: Callable[[], Captioner]) -> None:
    check_captioner(make)


@pytest.mark.parametrize("make", [AttributeRewriter, SameCaption])
def test_rewriters(make: Callable[[], PromptRewriter]) -> None:
    check_rewriter(make)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_stable_diffusion(tiny_pipeline_folder: Path) -> None:
    check_generator(DiffusionFactory(model=str(tiny_pipeline_folder)))


@pytest.mark.parametrize("save", [save_tiny_sdxl, save_tiny_lcm, save_tiny_sd3])
def test_other_families(save: Callable[[Path], Path], tmp_path: Path) -> None:
    check_generator(DiffusionFactory(model=str(save(tmp_path / "model"))), items=3)


def test_stable_diffusion_with_a_lora(tiny_pipeline_folder: Path, tmp_path: Path) -> None:
    lora = save_tiny_lora(tmp_path)
    check_generator(DiffusionFactory(model=str(tiny_pipeline_folder), lora=str(lora)), items=3)


def flag_some(checker: Any, render: Callable[[], object]) -> None:
    """Set the threshold so that some images are flagged: how like a concept they are is random."""
    torch.nn.init.constant_(checker.concept_embeds_weights, 2.0)
    seen: list[torch.Tensor] = []
    hook = checker.visual_projection.register_forward_hook(lambda *call: seen.append(call[2]))
    render()
    hook.remove()
    likeness_NC = torch.cosine_similarity(torch.cat(seen)[:, None], checker.concept_embeds, dim=2)
    ordered_N = likeness_NC.amax(dim=1).sort().values
    gap = int(ordered_N.diff().argmax())
    threshold = float(ordered_N[gap : gap + 2].mean())
    torch.nn.init.constant_(checker.concept_embeds_weights, threshold)


def test_a_safety_checker_refuses_some_and_does_not_cost_the_others(tmp_path: Path) -> None:
    factory = DiffusionFactory(model=str(save_tiny_flagging_sd(tmp_path / "model")))
    generator = factory()
    requests = [render_request(number) for number in range(8)]
    checker = generator._pipeline.safety_checker
    flag_some(checker, lambda: generator.render(requests))
    results = generator.render(requests)
    reasons = [result.rejected_by for result in results]
    assert set(reasons) == {None, "flagged-by-safety-checker"}
    images_of_nothing_are_nothing(generator)
    an_image_depends_on_its_request_alone(generator)
    odd_requests_do_not_affect_the_others(generator)
    torch.nn.init.constant_(checker.concept_embeds_weights, 2.0)
    unchecked = generator.render(requests)
    assert [r.rejected_by for r in unchecked] == [None] * 8
    for one, other, reason in zip(results, unchecked, reasons, strict=True):
        assert (pixels([one]) == pixels([other])) == (reason is None)
        assert one.image is not None
        assert (one.image.getbbox() is None) == (reason is not None)  # black
