"""Attributes of painted images with known answers, and their wordings."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from PIL import Image, ImageDraw

from gendataagent.core.protocols import CaptionRequest
from gendataagent.generation.tiny.attributes import (
    Band,
    downscale,
    measure,
    read_attributes,
    subject_and_background_colour,
)
from gendataagent.generation.tiny.captioner import AttributeCaptioner
from gendataagent.generation.tiny.vocabulary import (
    COLOURS,
    MEANING,
    PHRASES_AT_MOST,
    SEPARATOR,
    WORDINGS,
    Attributes,
    caption_of,
)

RGB = tuple[int, int, int]
GREEN: RGB = (40, 160, 40)


def painted(
    subject: RGB,
    background: RGB,
    *,
    size_px: int = 96,
    box: tuple[float, ...] = (0.3, 0.3, 0.7, 0.7),
) -> Image.Image:
    """A box of one colour on another; `box` is left, top, right, bottom as shares of the side."""
    image = Image.new("RGB", (size_px, size_px), background)
    ImageDraw.Draw(image).rectangle([round(edge * size_px) for edge in box], fill=subject)
    return image


@pytest.mark.parametrize(
    ("rgb", "name"),
    [
        ((10, 10, 10), "black"),
        ((250, 250, 250), "white"),
        ((128, 128, 128), "grey"),
        ((220, 20, 20), "red"),
        ((240, 140, 20), "orange"),
        ((120, 75, 40), "brown"),
        ((220, 195, 160), "beige"),
        ((240, 230, 40), "yellow"),
        (GREEN, "green"),
        ((40, 80, 200), "blue"),
        ((230, 100, 190), "pink"),
    ],
)
def test_every_colour_is_named_as_subject_and_as_background(rgb: RGB, name: str) -> None:
    other: RGB = GREEN if name != "green" else (250, 250, 250)
    assert read_attributes(painted(rgb, other)).subject_colour == name
    assert read_attributes(painted(other, rgb)).background_colour == name


def test_light_framing_and_position_follow_the_image() -> None:
    dark = read_attributes(painted((60, 30, 20), (20, 40, 20)))
    bright = read_attributes(painted((250, 240, 200), (200, 230, 250)))
    assert (dark.light, bright.light) == ("dark", "bright")
    near = read_attributes(painted((200, 20, 20), GREEN, box=(0.08, 0.08, 0.92, 0.92)))
    far = read_attributes(painted((200, 20, 20), GREEN, box=(0.4, 0.4, 0.6, 0.6)))
    assert (near.framing, far.framing) == ("close", "far")
    left = read_attributes(painted((200, 20, 20), GREEN, box=(0.1, 0.3, 0.4, 0.7)))
    assert left.position == "left"
    mirrored = painted((200, 20, 20), GREEN, box=(0.6, 0.3, 0.9, 0.7))
    assert read_attributes(mirrored).position == "right"


def test_plain_and_busy_backgrounds_differ() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert read_attributes(Image.fromarray(np.kron(noise, np.ones((8, 8, 1))).astype(np.uint8)))
    busy = Image.fromarray(noise[::2, ::2]).resize((32, 32), Image.Resampling.NEAREST)
    assert read_attributes(busy).background == "busy"
    assert read_attributes(painted((200, 20, 20), GREEN)).background == "plain"


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "CMYK", "P", "1"])
def test_any_mode_and_size_is_accepted(mode: str) -> None:
    for size in ((1, 1), (32, 32), (500, 37)):
        attributes = read_attributes(Image.new("RGB", size, (120, 75, 40)).convert(mode))
        assert attributes.subject_colour in COLOURS
        assert attributes.background_colour in COLOURS


def test_size_hardly_matters() -> None:
    small, large = (
        painted((200, 20, 20), GREEN, size_px=32),
        painted((200, 20, 20), GREEN, size_px=640),
    )
    assert read_attributes(small) == read_attributes(large)


def test_measurements_are_finite_on_a_flat_image() -> None:
    with np.errstate(all="raise"):
        pixels_HWC = downscale(Image.new("RGB", (32, 32), (0, 0, 0)))
        assert subject_and_background_colour(pixels_HWC) == ("black", "black")
        measured = measure(pixels_HWC)
    for field in fields(measured):
        assert np.isfinite(getattr(measured, field.name)), field.name


def test_a_band_is_none_between_its_limits() -> None:
    band = Band(0.2, 0.4, "low", "high")
    assert [band.read(x) for x in (0.1, 0.2, 0.4, 0.5)] == ["low", None, None, "high"]


def test_wordings_are_unambiguous_and_match_the_attributes() -> None:
    assert tuple(field.name for field in fields(Attributes)) == tuple(WORDINGS)
    count = sum(len(words) for values in WORDINGS.values() for words in values.values())
    assert len(MEANING) == count, "two values share a wording"
    assert not [wording for wording in MEANING if "," in wording or wording != wording.lower()]


def test_a_caption_can_be_parsed_and_is_not_too_long() -> None:
    everything = Attributes(
        "brown", "green", "dark", "vivid", "close", "busy", "warm", "high", "left", "fine"
    )
    phrases = caption_of(everything).split(SEPARATOR)
    assert len(phrases) == PHRASES_AT_MOST
    assert dict(MEANING[part] for part in phrases).items() <= everything.named().items()


def test_a_caption_depends_only_on_its_image() -> None:
    images = [painted((200, 20, 20), GREEN), painted((10, 10, 10), (250, 250, 250))]
    requests = [CaptionRequest(image=p, class_name="frog", seed=i) for i, p in enumerate(images)]
    captioner = AttributeCaptioner()
    together = captioner.caption(requests)
    assert together == [captioner.caption([request])[0] for request in requests]
    assert together[0].startswith("red, on a green background")
    assert together[1].startswith("black, on a white background")
    assert captioner.caption([]) == []
