"""Merged tokens: what is merged, how many tokens attention sees, and what images they make."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gendataagent.config import GenerationConfig, RunConfig
from gendataagent.core.errors import ConfigError, ModelError
from gendataagent.generation.diffusion import DiffusionFactory
from gendataagent.generation.diffusion.generator import DiffusionGenerator
from gendataagent.generation.diffusion.token_merging import (
    MOST,
    MergedAttention,
    TokenMerge,
    mergeable,
)
from gendataagent.generation.tiny.model import model_folder
from tests.generation.conformance import check_generator, pixels, render_request
from tests.tiny_models import save_tiny_sd3, save_tiny_sdxl

PLAIN = DiffusionFactory(model=str(model_folder()), dtype="float32", batch_size=4)


def tokens(side: int = 6, batch: int = 2, width: int = 5) -> Tensor:
    return torch.randn(batch, side**2, width, generator=torch.Generator().manual_seed(side))


@pytest.mark.parametrize("side", [2, 3, 7, 8])
def test_without_merging_every_token_comes_back(side: int) -> None:
    given = tokens(side)
    merge = TokenMerge(given, 0.0)
    merged = merge.merge(given)
    assert merged.shape == given.shape
    torch.testing.assert_close(merge.unmerge(merged), given, rtol=0, atol=0)


@pytest.mark.parametrize("share", [0.1, 0.5, MOST])
def test_tokens_are_merged_into_their_most_similar_destination(share: float) -> None:
    """Against the definition, token by token."""
    side, given = 6, tokens()
    merge = TokenMerge(given, share)
    source, target = merge._source_S.tolist(), merge._target_D.tolist()
    assert sorted(source + target) == list(range(side**2))
    cells = [(place // side // 2, place % side // 2) for place in target]
    assert len(set(cells)) == len(cells) == (side // 2) ** 2  # one in each cell
    merged, restored = merge.merge(given), merge.unmerge(merge.merge(given))
    assert merged.shape[1] == side**2 - int(share * side**2)
    for image, back in zip(given, restored, strict=True):
        unit = image / image.norm(dim=1, keepdim=True)
        likeness = unit[source] @ unit[target].T
        most, nearest = likeness.max(dim=1)
        chosen = sorted(range(len(source)), key=lambda i: -float(most[i]))
        groups = {place: [place] for place in target}
        for number in chosen[: int(share * side**2)]:
            groups[target[int(nearest[number])]].append(source[number])
        expected = image.clone()
        for members in groups.values():
            expected[members] = image[members].mean(dim=0)
        torch.testing.assert_close(back, expected)


def test_the_merge_of_an_image_is_that_of_its_tokens_alone() -> None:
    given = tokens(side=8, batch=4)
    together = TokenMerge(given, 0.5)
    for number in range(4):
        alone = TokenMerge(given[number : number + 1], 0.5)
        assert torch.equal(alone._merged_BM[0], together._merged_BM[number])
        assert torch.equal(alone._into_BM[0], together._into_BM[number])


def test_like_tokens_are_merged_without_loss() -> None:
    """Four regions of one token each: attention sees less, and nothing changes."""
    quarters = torch.eye(4)[[2 * (r // 4) + c // 4 for r in range(8) for c in range(8)]][None]
    merge = TokenMerge(quarters, 0.5)
    torch.testing.assert_close(merge.unmerge(merge.merge(quarters)), quarters)


@contextmanager
def seen(generator: DiffusionGenerator) -> Iterator[list[int]]:
    """Count the tokens that self-attention sees in each call."""
    counts: list[int] = []

    def count(inner: Any) -> Any:
        def processor(attn: Any, states: Tensor, *arguments: Any, **options: Any) -> Any:
            counts.append(states.shape[1])
            return inner(attn, states, *arguments, **options)

        return processor

    for attention in mergeable(generator.pipeline.unet):
        processor = attention.processor
        if isinstance(processor, MergedAttention):
            processor.inner = count(processor.inner)
        else:
            attention.set_processor(count(processor))
    yield counts


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 0.75])
def test_attention_sees_fewer_tokens(share: float, tiny_pipeline_folder: Path) -> None:
    """Latents of 32 px, attention at half of them: 256 tokens."""
    factory = DiffusionFactory(
        model=str(tiny_pipeline_folder), size_px=128, batch_size=1, merge_tokens=share
    )
    factory.check()
    generator = factory()
    with seen(generator) as counts:
        assert pixels(generator.render([render_request(0)]))[0]
    assert set(counts) == {256 - int(256 * share)}


def test_images_do_not_depend_on_their_batch(tiny_pipeline_folder: Path) -> None:
    merging = DiffusionFactory(model=str(tiny_pipeline_folder), merge_tokens=0.5, batch_size=4)
    check_generator(merging, items=3)


def test_off_is_the_same_to_the_bit_and_the_distance_grows_with_the_share() -> None:
    requests = [render_request(number) for number in range(4)]

    def images(**changes: Any) -> np.ndarray[Any, Any]:
        made = replace(PLAIN, **changes)().render(requests)
        return np.stack([np.asarray(result.image, dtype=np.int64) for result in made])

    plain = images()
    assert np.array_equal(images(merge_tokens=0.0), plain)
    distances = [np.abs(images(merge_tokens=s) - plain).mean() for s in (0.25, 0.5, 0.75)]
    assert 0 < distances[0] < distances[1] < distances[2]
    both = images(merge_tokens=0.5, fuse_qkv=True)
    assert np.abs(both - plain).mean() == pytest.approx(distances[1], abs=1.0)


def test_a_single_token_is_left_alone(tiny_pipeline_folder: Path) -> None:
    smallest = DiffusionFactory(model=str(tiny_pipeline_folder), size_px=8, merge_tokens=0.5)
    assert pixels(smallest().render([render_request(0)]))[0]


@pytest.mark.slow
def test_merged_tokens_can_be_compiled() -> None:
    requests = [render_request(number) for number in range(2)]
    plain, compiled = (
        replace(PLAIN, merge_tokens=0.5, compile=on)().render(requests) for on in (False, True)
    )
    for one, other in zip(plain, compiled, strict=True):
        assert np.abs(np.asarray(one.image, int) - np.asarray(other.image, int)).mean() <= 1.0


def test_sdxl_merges_at_half_the_side_of_its_latents(tmp_path: Path) -> None:
    factory = DiffusionFactory(model=str(save_tiny_sdxl(tmp_path)), merge_tokens=0.5)
    factory.check()
    generator = factory()
    side = math.isqrt(16)
    with seen(generator) as counts:
        assert pixels(generator.render([render_request(0)]))[0]
    assert set(counts) == {side**2 // 2}


def test_models_without_such_attention_are_refused(tmp_path: Path) -> None:
    factory = DiffusionFactory(model=str(save_tiny_sd3(tmp_path)), merge_tokens=0.5)
    for refuses in (factory.check, factory):
        with pytest.raises(ModelError, match=r"merge_tokens does not work on this SD3Tr.*set it"):
            refuses()
    from diffusers import UNet2DConditionModel

    low = UNet2DConditionModel(
        sample_size=8, block_out_channels=(8, 8, 8), norm_num_groups=4, layers_per_block=1,
        cross_attention_dim=8, attention_head_dim=2,
        down_block_types=("DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    with pytest.raises(ModelError, match="no UNet self-attention at the full or half side"):
        mergeable(low)


def test_the_setting_reaches_the_generator_and_has_limits() -> None:
    factory = DiffusionFactory.from_config(GenerationConfig(merge_tokens=0.4), "a/b", "cpu")
    assert factory.merge_tokens == 0.4
    for share in (-0.1, 0.76, 1.0):
        with pytest.raises(ConfigError, match=r"generation\.merge_tokens must be at"):
            RunConfig.from_dict({"generation": {"merge_tokens": share}})
