"""Pairs of images with similar regions, found by hashing.

The time grows with the number of images, not with its square.

Letters in array names: M regions, N others, P pairs, R rings, A angles, D waves, K directions,
T tables, B bits.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from gendataagent.data.duplicates.regions import ANGLES, FloatArray, IntArray, Regions

_DIRECTIONS = 14
_TABLES = 8
_NEIGHBOURS = 6  # in one table, on either side
_NEAR = 0.8  # product of whitened waves
_TELLING = 1000  # regions that show what all regions have in common
_LIKE = 0.7
_GUESSES = 3  # for one pair of images
_MOST_WITHIN, _MOST_REFERENCES = 20, 60  # pairs of an image
_AT_ONCE = 1 << 15  # regions


class Hypotheses(NamedTuple):
    """P pairs of images, and how a point of the first maps to the second: [P, 2, 3]."""

    one_P: IntArray
    other_P: IntArray
    affine_P23: FloatArray


def pairs_within(regions: Regions) -> Hypotheses:
    """Return pairs of images with similar regions, the first before the second."""
    first, second = _Tables.of(regions.waves_MD, regions.waves_MD).neighbours()
    image = regions.image_M
    useful = image[first] != image[second]
    first, second = first[useful], second[useful]
    swap = image[first] > image[second]
    first, second = np.where(swap, second, first), np.where(swap, first, second)
    return _hypotheses(regions, first, regions, second, both=True)


class RegionIndex:
    """Regions of references, hashed once, with which those of images are compared.

    What is found of an image depends on it and the references alone, unless these are a few.
    """

    def __init__(self, references: Regions) -> None:
        self._references = references
        waves_MD = references.waves_MD
        self._tables = _Tables.of(waves_MD, waves_MD) if len(waves_MD) >= _TELLING else None

    def match(self, images: Regions) -> Hypotheses:
        """Return pairs of an image and a reference with similar regions, each image in a few."""
        known_MD, waves_MD = self._references.waves_MD, images.waves_MD
        tables = self._tables or _Tables.of(known_MD, np.concatenate([known_MD, waves_MD]))
        first, second = tables.nearest(waves_MD)
        return _hypotheses(images, first, self._references, second, both=False)


def _hypotheses(
    ones: Regions, first: IntArray, others: Regions, second: IntArray, *, both: bool
) -> Hypotheses:
    """Return the likeliest pairs of images, of pairs of regions.

    Args:
        both: whether a pair is kept that is likely for either image; else for the first.
    """
    like, turn, mirrored = _correlate(ones.rings_MRA, first, others.rings_MRA, second)
    good = like > _LIKE
    first, second = first[good], second[good]
    like, turn, mirrored = like[good], turn[good], mirrored[good]
    # A pair that several regions name is likelier than one of a single, very similar region.
    one, other = ones.image_M[first], others.image_M[second]
    key = one * (int(others.image_M.max(initial=0)) + 1) + other
    _, inverse, votes = np.unique(key, return_inverse=True, return_counts=True)
    score = like + 0.1 * np.minimum(votes[inverse], 6)
    likely = rank_within(one, score) < (_MOST_WITHIN if both else _MOST_REFERENCES)
    if both:
        likely |= rank_within(other, score) < _MOST_WITHIN
    rows = np.flatnonzero((rank_within(key, score) < _GUESSES) & likely)
    affine = _affine(ones, first[rows], others, second[rows], turn[rows], mirrored[rows])
    return Hypotheses(one[rows], other[rows], affine)


def rank_within(key: IntArray, score: npt.NDArray[np.floating]) -> IntArray:
    """Return the rank of each entry among those of its key, 0 for the highest score."""
    order = np.lexsort((np.arange(len(key)), -score, key))
    ordered = key[order]
    starts = np.r_[True, ordered[1:] != ordered[:-1]] if len(key) else np.empty(0, bool)
    first = np.maximum.accumulate(np.where(starts, np.arange(len(key)), 0))
    rank = np.empty(len(key), np.int64)
    rank[order] = np.arange(len(key)) - first
    return rank


@dataclass(frozen=True, slots=True)
class _Tables:
    """Hash tables of M regions: rows with one code are like each other, neighbours in order most.

    Args:
        white_MK: what is hashed, of length 1 (0 for what says nothing).
        order_TM, key_TM: of each table the rows in order, and their keys: code + tie in (0, 1).
    """

    mean_D: FloatArray
    directions_DK: FloatArray
    planes_TKB: FloatArray
    ties_TK: FloatArray
    white_MK: FloatArray
    order_TM: npt.NDArray[np.int32]
    key_TM: npt.NDArray[np.float64]

    @classmethod
    def of(cls, waves_MD: FloatArray, telling_ND: FloatArray) -> _Tables:
        """Hash regions; `telling_ND` says which waves tell regions apart."""
        draw, count = np.random.default_rng(0), max(len(waves_MD), 2)
        mean_D = telling_ND.mean(axis=0) if len(telling_ND) else np.zeros(waves_MD.shape[1:])
        centred = (telling_ND - mean_D).astype(np.float64)
        values, vectors = np.linalg.eigh(centred.T @ centred / max(len(centred), 1))
        scale = 1 / np.sqrt(np.maximum(values[-_DIRECTIONS:], 1e-6))
        bits = int(np.clip(np.ceil(np.log2(count)) - 2, 4, 20))
        drawn = [
            (draw.standard_normal((_DIRECTIONS, bits)), draw.standard_normal(_DIRECTIONS))
            for _ in range(_TABLES)
        ]
        made = cls(
            mean_D.astype(np.float32),
            (vectors[:, -_DIRECTIONS:] * scale**0.5).astype(np.float32),
            np.stack([planes for planes, _ in drawn]).astype(np.float32),
            np.stack([tie for _, tie in drawn]).astype(np.float32),
            np.empty((0, _DIRECTIONS), np.float32),
            np.empty((_TABLES, 0), np.int32),
            np.empty((_TABLES, 0)),
        )
        white_MK = made._whitened(waves_MD)
        keys = [made._keys(table, white_MK) for table in range(_TABLES)]
        order_TM = np.stack([np.argsort(key, kind="stable") for key in keys])
        key_TM = np.stack([key[order] for key, order in zip(keys, order_TM, strict=True)])
        return replace(made, white_MK=white_MK, order_TM=order_TM.astype(np.int32), key_TM=key_TM)

    def neighbours(self) -> tuple[IntArray, IntArray]:
        """Return pairs of similar rows."""
        count, pairs = len(self.white_MK), [np.empty(0, np.int64)]
        for order, key in zip(self.order_TM, self.key_TM, strict=True):
            for step in range(1, min(_NEIGHBOURS, count - 1) + 1):
                same = np.floor(key[:-step]) == np.floor(key[step:])
                a, b = order[:-step][same].astype(np.int64), order[step:][same].astype(np.int64)
                near = self._near(self.white_MK[a], b)
                a, b = a[near], b[near]
                pairs.append(np.minimum(a, b) * count + np.maximum(a, b))
        found = np.unique(np.concatenate(pairs))
        return found // max(count, 1), found % max(count, 1)

    def nearest(self, waves_ND: FloatArray) -> tuple[IntArray, IntArray]:
        """Return pairs of a row of `waves_ND` and a similar row of the tables."""
        count, pairs = len(self.white_MK), [np.empty(0, np.int64)]
        for start in range(0, len(waves_ND), _AT_ONCE):
            white_NK = self._whitened(waves_ND[start : start + _AT_ONCE])
            rows = np.arange(len(white_NK))
            for table, (order, known) in enumerate(zip(self.order_TM, self.key_TM, strict=True)):
                key = self._keys(table, white_NK)
                place = np.searchsorted(known, key)
                for step in range(-_NEIGHBOURS, _NEIGHBOURS):
                    at = place + step
                    there = (at >= 0) & (at < count)
                    a, at = rows[there], at[there]
                    same = np.floor(known[at]) == np.floor(key[a])
                    a, b = a[same], order[at[same]].astype(np.int64)
                    near = self._near(white_NK[a], b)
                    pairs.append((a[near] + start) * count + b[near])
        found = np.unique(np.concatenate(pairs))
        return found // max(count, 1), found % max(count, 1)

    def _whitened(self, waves_ND: FloatArray) -> FloatArray:
        white = ((waves_ND - self.mean_D) @ self.directions_DK).astype(np.float32, copy=False)
        white /= np.maximum(np.sqrt((white**2).sum(axis=1, keepdims=True)), 1e-6)
        return white

    def _keys(self, table: int, white_NK: FloatArray) -> npt.NDArray[np.float64]:
        planes = self.planes_TKB[table]
        code = ((white_NK @ planes) > 0) @ (1 << np.arange(planes.shape[1]))
        tie = np.tanh((white_NK @ self.ties_TK[table]).astype(np.float64))
        keys: npt.NDArray[np.float64] = code + 0.5 + 0.49 * tie
        return keys

    def _near(self, white_PK: FloatArray, rows_P: IntArray) -> npt.NDArray[np.bool_]:
        near: npt.NDArray[np.bool_] = np.einsum("pk,pk->p", white_PK, self.white_MK[rows_P]) > _NEAR
        return near


def _correlate(
    ones_MRA: FloatArray, first: IntArray, others_MRA: FloatArray, second: IntArray
) -> tuple[FloatArray, IntArray, npt.NDArray[np.bool_]]:
    """Return the highest correlation over turns, its turn in steps, and whether mirrored."""
    like = np.empty(len(first), np.float32)
    turn = np.empty(len(first), np.int64)
    mirrored = np.empty(len(first), bool)
    for start in range(0, len(first), 1 << 16):
        part = slice(start, start + (1 << 16))
        a = np.fft.rfft(ones_MRA[first[part]], axis=2).astype(np.complex64)
        b = np.fft.rfft(others_MRA[second[part]], axis=2).astype(np.complex64)
        plain = np.fft.irfft((a.conj() * b).sum(axis=1), ANGLES, axis=1)
        mirror = np.fft.irfft((a * b).sum(axis=1), ANGLES, axis=1)
        best_plain, best_mirror = plain.max(axis=1), mirror.max(axis=1)
        is_mirror = best_mirror > best_plain
        like[part] = np.where(is_mirror, best_mirror, best_plain)
        turn[part] = np.where(is_mirror, mirror.argmax(axis=1), plain.argmax(axis=1))
        mirrored[part] = is_mirror
    return like, turn, mirrored


def _affine(
    ones: Regions,
    first: IntArray,
    others: Regions,
    second: IntArray,
    turn: IntArray,
    mirrored: Any,
) -> FloatArray:
    """Return the maps [P, 2, 3] from points (row, column, 1) of the first to the second."""
    angle = turn * (2 * np.pi / ANGLES)
    scale = others.sigma_M[second] / ones.sigma_M[first]
    sign = np.where(mirrored, -1.0, 1.0)
    # A point at angle t is (sin t, cos t). Plain: t -> t + turn. Mirrored: t -> turn - t.
    matrix = np.empty((len(first), 2, 2))
    matrix[:, 0, 0], matrix[:, 0, 1] = sign * np.cos(angle), np.sin(angle)
    matrix[:, 1, 0], matrix[:, 1, 1] = -sign * np.sin(angle), np.cos(angle)
    matrix[:, 1, 0] = np.where(mirrored, np.sin(angle), matrix[:, 1, 0])
    matrix *= scale[:, None, None]
    shift = others.centre_M2[second] - np.einsum("pij,pj->pi", matrix, ones.centre_M2[first])
    affine: FloatArray = np.concatenate([matrix, shift[:, :, None]], axis=2).astype(np.float32)
    return affine
