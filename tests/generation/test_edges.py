"""Canny's edges: where they are known by construction, and what decides about them."""

from __future__ import annotations

import numpy as np
import pytest

from gendataagent.generation.diffusion.control import Control
from gendataagent.generation.diffusion.edges import Mask, edges_of
from tests.generation.conformance import make_image

SQUARE = [
    "..........",
    "..........",
    "....##....",
    "...#..#...",
    "..#...#...",
    "..#...#...",
    "...####...",
    "..........",
    "..........",
    "..........",
]


def drawn(mask_HW: Mask) -> list[str]:
    return ["".join("#" if is_edge else "." for is_edge in row) for row in mask_HW]


def canvas(height: int = 8, width: int = 8) -> np.ndarray:
    return np.zeros((height, width, 3), dtype=np.uint8)


def test_the_outline_of_a_square_is_as_opencv_finds_it() -> None:
    """The lines are what cv2.Canny 5.0.0 gives with thresholds 120 and 200."""
    image = canvas(10, 10)
    image[3:7, 3:7] = 255
    assert drawn(edges_of(image, 120, 200)) == SQUARE


@pytest.mark.parametrize("turns", range(4))
def test_a_step_is_an_edge_along_it_whatever_its_direction(turns: int) -> None:
    image = canvas()
    image[:, 4:] = 200
    edges = edges_of(np.rot90(image, turns), 120, 200)
    assert edges.sum() == 8
    lines = edges.any(axis=turns % 2)
    assert lines.sum() == 1
    assert lines.argmax() in (3, 4)


def test_a_diagonal_is_an_edge_without_gaps() -> None:
    image = canvas(12, 12)
    image[np.tril_indices(12)] = 255
    edges = edges_of(image, 120, 200)
    assert edges.max(axis=1)[1:-1].all()
    assert edges.sum() <= 2 * 12


def test_the_largest_of_the_colours_counts_and_a_flat_image_has_no_edge() -> None:
    image = canvas()
    image[..., 0], image[:, 4:, 1] = 255, 255
    assert edges_of(image, 120, 200).sum() == 8
    assert not edges_of(canvas() + 90, 1, 1).any()


def test_a_faint_edge_stays_only_where_it_continues_a_strong_one() -> None:
    """A step that grows fainter downwards: gradients 4 x 60, 4 x 40 and 4 x 10."""
    image = canvas(12, 8)
    image[:4, 4:], image[4:8, 4:], image[8:, 4:] = 60, 40, 10
    alone = canvas(12, 8)
    alone[:, 4:] = 40
    rows = edges_of(image, 120, 200).max(axis=1)
    assert rows[:8].all()
    assert not rows[9:].any()
    assert not edges_of(alone, 120, 200).any()
    assert edges_of(alone, 120, 159).sum() == 12
    assert not edges_of(alone, 120, 160).any()  # above it, not at it


def test_an_edge_continues_around_bends_and_over_any_length() -> None:
    image = canvas(40, 40)
    image[4:36, 4:36] = 31  # gradients of 124, of 186 at its corners
    assert not edges_of(image, 120, 200).any()
    assert edges_of(image, 120, 150).sum() > 100
    image[4, 20] = 90  # the only strong place
    edges = edges_of(image, 120, 200)
    assert edges[33:37].max(axis=0)[8:32].all()  # the opposite side


def test_what_a_controlnet_is_shown_is_white_on_black_and_a_blur_leaves_less_of_it() -> None:
    image = make_image(3, (64, 64))
    plain, blurred = (
        np.asarray(Control(name="x", blur_px=blur).image_of(image)) for blur in (0.0, 3.0)
    )
    assert plain.shape == (64, 64, 3)
    assert set(np.unique(plain)) == {0, 255}
    assert 0 < blurred.sum() < plain.sum()
    assert plain.tobytes() == np.asarray(Control(name="x").image_of(image)).tobytes()
