"""The views of an image that the gradient of feedback is summed over."""

from __future__ import annotations

import itertools

import torch

from gendataagent.generation.feedback.steering import VIEWS


def test_views_are_different_images_of_the_same_form() -> None:
    images = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    seen = [view(images) for view in VIEWS]
    assert torch.equal(seen[0], images)
    assert all(one.shape == images.shape for one in seen)
    assert all(not torch.equal(one, other) for one, other in itertools.combinations(seen, 2))


def test_a_view_of_an_image_does_not_depend_on_the_others_of_the_batch() -> None:
    images = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    for view in VIEWS:
        assert torch.equal(view(images)[1:2], view(images[1:2]))


def test_what_the_views_do_to_an_image() -> None:
    image = torch.zeros(1, 3, 32, 32)
    image[:, 0, 8, 4] = 0.9
    _, mirrored, blurred, shifted, grey, flat = (view(image) for view in VIEWS)
    assert mirrored[0, 0, 8, 27] == blurred[0, 0, 8, 4] * 9 == shifted[0, 0, 10, 6]
    assert torch.allclose(grey[0, :, 8, 4], torch.tensor(0.3))
    assert torch.isclose(flat.std() * 2, image.std(), rtol=0.1)
    assert torch.isclose(flat.mean(), image.mean())
