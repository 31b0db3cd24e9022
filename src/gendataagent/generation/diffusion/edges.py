"""Edges of an image by Canny's method, with numpy alone: what a ControlNet draws along.

Canny, "A Computational Approach to Edge Detection" (PAMI 1986): the gradient, thinned to its
ridges, and two thresholds, of which the higher starts an edge and the lower continues it. Gradients
are measured as OpenCV does by default, on whose edges ControlNets are trained: Sobel's kernels of
3 x 3 on 0..255, |x| + |y|, of each pixel the colour in which it is largest. All numbers are whole,
so an image has the same edges on every machine.

Legend: H height, W width, C colours.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Whole = NDArray[np.int32]
Mask = NDArray[np.bool_]

_BITS = 15
_TAN_22 = 13573  # tan 22.5 degrees, times 2 ** _BITS


def edges_of(pixels_HWC: Pixels, low: float, high: float) -> Mask:
    """Return where the edges of an image are, [H, W].

    Args:
        low, high: gradients above `high` start an edge, those above `low` continue it.
    """
    across_HW, down_HW = _gradient(pixels_HWC)
    size_HW = np.abs(across_HW) + np.abs(down_HW)
    ridge_HW = _ridges(across_HW, down_HW, size_HW) & (size_HW > low)
    return _connected(ridge_HW & (size_HW > high), ridge_HW)


def _gradient(pixels_HWC: Pixels) -> tuple[Whole, Whole]:
    """Return the gradient to the right and down, of the colour in which it is largest."""
    padded = np.pad(pixels_HWC.astype(np.int32), ((1, 1), (1, 1), (0, 0)), mode="edge")
    right, below = padded[:, 2:] - padded[:, :-2], padded[2:] - padded[:-2]
    across_HWC = right[:-2] + 2 * right[1:-1] + right[2:]
    down_HWC = below[:, :-2] + 2 * below[:, 1:-1] + below[:, 2:]
    largest_HW1 = (np.abs(across_HWC) + np.abs(down_HWC)).argmax(axis=-1)[..., None]
    across, down = (
        np.take_along_axis(each, largest_HW1, axis=-1)[..., 0] for each in (across_HWC, down_HWC)
    )
    return across, down


def _ridges(across_HW: Whole, down_HW: Whole, size_HW: Whole) -> Mask:
    """Return where the gradient is larger than at both neighbours in its direction.

    Of two equal neighbours the left or upper one is the ridge.
    """
    height, width = size_HW.shape
    padded = np.pad(size_HW, 1)

    def at(down: int, right: int) -> Whole:
        return padded[1 + down : 1 + down + height, 1 + right : 1 + right + width]

    flat_HW, steep_HW = np.abs(across_HW), np.abs(down_HW) << _BITS
    is_across = steep_HW < flat_HW * _TAN_22
    is_down = steep_HW > flat_HW * _TAN_22 + (flat_HW << (_BITS + 1))
    falls = (across_HW ^ down_HW) >= 0
    return np.where(
        is_across,
        (size_HW > at(0, -1)) & (size_HW >= at(0, 1)),
        np.where(
            is_down,
            (size_HW > at(-1, 0)) & (size_HW >= at(1, 0)),
            np.where(
                falls,
                (size_HW > at(-1, -1)) & (size_HW > at(1, 1)),
                (size_HW > at(-1, 1)) & (size_HW > at(1, -1)),
            ),
        ),
    )


def _connected(started_HW: Mask, possible_HW: Mask) -> Mask:
    """Return the possible places that are connected to a started one, which is one of them."""
    open_ = np.pad(possible_HW & ~started_HW, 1)
    edges = np.pad(started_HW, 1)
    width = edges.shape[1]
    around = np.array([down * width + right for down in (-1, 0, 1) for right in (-1, 0, 1)])
    open_flat, edges_flat = open_.reshape(-1), edges.reshape(-1)
    front = np.flatnonzero(edges_flat)
    while front.size:
        near = (front[:, None] + around).reshape(-1)
        front = np.unique(near[open_flat[near]])
        open_flat[front] = False
        edges_flat[front] = True
    return edges[1:-1, 1:-1]
