"""Every operation against Pillow's own, and the draws."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from gendataagent.config import TrainingConfig
from gendataagent.training.augmentation import Augmenter
from gendataagent.training.randaugment import OPERATIONS, apply_operation, randaugment

SIDE = 32
SHARES = (0.0, 0.3, 0.5, 1.0)


@pytest.fixture
def images() -> Tensor:
    """Smooth images with some noise, one dull, one of one colour: whole numbers in 0..255."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand((6, 3, 5, 5), generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, SIDE, mode="bicubic") * 220
    noise = torch.randn((6, 3, SIDE, SIDE), generator=generator) * 8
    images = (smooth + noise).clamp(0, 255).round()
    images[4] = (images[4] / 4 + 90).round()
    images[5] = torch.tensor([10.0, 200.0, 77.0])[:, None, None]
    return images


def affine(*entries: float) -> Callable[[Image.Image], Image.Image]:
    return lambda image: image.transform(
        image.size, Image.Transform.AFFINE, entries, Image.Resampling.NEAREST
    )


def pillow(name: str, share: float, sign: float) -> Callable[[Image.Image], Image.Image]:
    """Return the operation as torchvision's RandAugment does it to a Pillow image."""
    amount, blend = share * sign, 1 + 0.9 * share * sign
    translation = int(150 / 331 * SIDE * amount)
    angle = math.radians(30 * amount)
    return {
        "identity": lambda image: image,
        "shear-x": affine(1, 0.3 * amount, 0, 0, 1, 0),
        "shear-y": affine(1, 0, 0, 0.3 * amount, 1, 0),
        "translate-x": affine(1, 0, translation, 0, 1, 0),
        "translate-y": affine(1, 0, 0, 0, 1, translation),
        "rotate": lambda image: image.rotate(math.degrees(angle)),
        "brightness": lambda image: ImageEnhance.Brightness(image).enhance(blend),
        "colour": lambda image: ImageEnhance.Color(image).enhance(blend),
        "contrast": lambda image: ImageEnhance.Contrast(image).enhance(blend),
        "sharpness": lambda image: ImageEnhance.Sharpness(image).enhance(blend),
        "posterize": lambda image: ImageOps.posterize(image, 8 - round(4 * share)),
        "solarize": lambda image: ImageOps.solarize(image, math.ceil(255 * (1 - share))),
        "autocontrast": ImageOps.autocontrast,
        "equalize": ImageOps.equalize,
    }[name]


def to_pillow(image_3SS: Tensor) -> Image.Image:
    return Image.fromarray(image_3SS.permute(1, 2, 0).numpy().astype(np.uint8))


@pytest.mark.parametrize("sign", [-1.0, 1.0])
@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_does_what_pillow_s_does(
    name: str, share: float, sign: float, images: Tensor
) -> None:
    found = apply_operation(name, images, share, torch.full((len(images),), sign))
    expected = torch.stack(
        [
            torch.from_numpy(np.array(pillow(name, share, sign)(to_pillow(image)))).permute(2, 0, 1)
            for image in images
        ]
    ).float()
    differing = (found - expected).abs()
    # Pillow cuts off where this rounds, and takes grey to whole numbers its own way: 1 or 2 of 255.
    if name in ("brightness", "colour", "contrast", "sharpness"):
        assert differing.max() <= 2
        assert differing.mean() < 0.8
    elif name in ("autocontrast", "rotate"):  # a value or place on the edge of rounding
        assert (differing > 0).float().mean() < 0.02
    else:
        assert torch.equal(found, expected)
    assert 0 <= found.min() <= found.max() <= 255
    assert torch.equal(found, found.round())


def test_each_image_goes_its_own_direction(images: Tensor) -> None:
    signs = torch.tensor([1.0, -1, 1, -1, 1, -1])
    together = apply_operation("shear-x", images, 0.5, signs)
    for index, sign in enumerate(signs):
        alone = apply_operation("shear-x", images[index : index + 1], 0.5, sign[None])
        assert torch.equal(together[index : index + 1], alone)


def test_operations_are_drawn_alike_and_per_image(images: Tensor) -> None:
    many = images[0].expand(2800, -1, -1, -1) / 255
    results = randaugment(many, 1, 15, torch.Generator().manual_seed(0))
    kinds = {result.numpy().tobytes() for result in results}
    assert len(kinds) == 14 + 9  # nine of the fourteen have two directions
    same = (results == many.mul(255).round() / 255).flatten(1).all(dim=1).float().mean()
    assert 1 / 14 - 0.02 < same < 1 / 14 + 0.02  # identity


def test_several_operations_follow_each_other_and_depend_on_the_generator_alone(
    images: Tensor,
) -> None:
    def result(seed: int, operations: int = 2, magnitude: float = 9) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return randaugment(images / 255, operations, magnitude, generator)

    torch.manual_seed(1)
    assert torch.equal(result(3), result(3))
    assert not torch.equal(result(3), result(4))
    assert not torch.equal(result(3), result(3, operations=3))
    assert not torch.equal(result(3), result(3, magnitude=25))
    assert 0 <= result(3).min() <= result(3).max() <= 1


def test_the_settings_reach_the_augmenter(images: Tensor) -> None:
    config = TrainingConfig(
        augmentation="none", colour_jitter=0, randaugment_operations=2, randaugment_magnitude=11
    )
    augment = Augmenter.from_config(config, SIDE)
    found = augment(images.to(torch.uint8), torch.Generator().manual_seed(5))
    expected = randaugment(images / 255, 2, 11, torch.Generator().manual_seed(5))
    assert torch.equal(found, expected)
    assert Augmenter.from_config(TrainingConfig(), SIDE).randaugment_operations == 0
