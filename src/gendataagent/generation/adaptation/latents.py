"""Training images as latents of a pipeline's autoencoder, each cut and mirrored as drawn.

Letters in tensor names: B images of a batch, F = 1 or 2 mirrorings, K = 1 or 2 (mean, deviation),
C latent channels, S side of a latent, 3 colours, P side of a image in px.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gendataagent.core.errors import ModelError, TrainingDivergedError
from gendataagent.core.progress import Progress
from gendataagent.core.records import derive_seed
from gendataagent.data.pixels import GIB, ImageSet

ENCODED_TOGETHER = 8


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Draw:
    """All that is random about one image in one epoch, whatever batch it is in.

    Args:
        timestep: of the noise schedule.
        down, along: where the crop lies, in [0, 1) of what there is to choose from.
        flip: whether it is mirrored.
        noise_CSS: what the latent is noised with.
        posterior_CSS: which of the autoencoder's possible latents it is.
    """

    timestep: int
    down: float
    along: float
    flip: bool
    noise_CSS: Tensor
    posterior_CSS: Tensor


def draw(
    seed: int, epoch: int, image_id: str, *, shape_CSS: tuple[int, int, int], timesteps: int
) -> Draw:
    """Return the draw of a image in an epoch; it depends on nothing but the arguments."""
    generator = torch.Generator().manual_seed(derive_seed(seed, "adapt", epoch, image_id))
    uniform_3 = torch.rand(3, generator=generator).tolist()
    return Draw(
        timestep=int(torch.randint(timesteps, (), generator=generator)),
        down=uniform_3[0],
        along=uniform_3[1],
        flip=uniform_3[2] < 0.5,
        noise_CSS=torch.randn(shape_CSS, generator=generator),
        posterior_CSS=torch.randn(shape_CSS, generator=generator),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cut:
    """A image brought to size.

    Args:
        pixels_3PP: in [-1, 1].
        original_px: height and width before.
        corner_px: upper and left edge of the crop, after resizing.
        choices: in how many places the crop could have been.
    """

    pixels_3PP: Tensor
    original_px: tuple[int, int]
    corner_px: tuple[int, int]
    choices: int


def cut(image: Image.Image, size_px: int, *, down: float, along: float, flip: bool) -> Cut:
    """Return the square of `size_px` that the draw says; the recipe of Real-Fake's code.

    The shorter side is brought to `size_px` (bilinear), then a square is cut out, then mirrored.
    """
    width, height = image.size
    if min(width, height) != size_px:
        scale = size_px / min(width, height)
        width, height = (
            size_px if side == min(image.size) else int(side * scale) for side in image.size
        )
        resized = image.resize((width, height), Image.Resampling.BILINEAR)
    else:
        resized = image
    top, left = int(down * (height - size_px + 1)), int(along * (width - size_px + 1))
    square = resized.crop((left, top, left + size_px, top + size_px)).convert("RGB")
    if flip:
        square = square.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    pixels_3PP = torch.from_numpy(np.array(square)).permute(2, 0, 1).float() / 127.5 - 1
    return Cut(
        pixels_3PP=pixels_3PP,
        original_px=(image.height, image.width),
        corner_px=(top, left),
        choices=(height - size_px + 1) * (width - size_px + 1),
    )


class LatentEncoder:
    """The autoencoder of a pipeline: pixels to the latents its UNet works on.

    SDXL's, which overflows in fp16, encodes in single precision whatever its weights are.
    """

    def __init__(self, pipeline: Any) -> None:
        self._vae = pipeline.vae
        is_sdxl = getattr(pipeline, "text_encoder_2", None) is not None
        self._in_float32 = is_sdxl and bool(getattr(self._vae.config, "force_upcast", False))
        if getattr(self._vae.config, "latents_mean", None) is not None:
            raise ModelError(
                "generation.generator: its autoencoder shifts latents channel by channel "
                "(latents_mean), which adaptation does not know; name a Stable Diffusion 1, 2 or XL"
            )

    def moments(self, pixels_B3PP: Tensor) -> Tensor:
        """Return scaled mean and deviation of the latents, [B, 2, C, S, S]; [B, 1, ...] if exact.

        In float32, on the CPU.

        Raises:
            TrainingDivergedError: they are not finite.
        """
        found = self._vae.dtype
        if self._in_float32:
            self._vae.to(torch.float32)
        with torch.no_grad():
            encoded = self._vae.encode(pixels_B3PP.to(self._vae.device, self._vae.dtype))
            if hasattr(encoded, "latent_dist"):
                moments = torch.stack([encoded.latent_dist.mean, encoded.latent_dist.std], dim=1)
            else:
                moments = encoded.latents[:, None]
        if self._in_float32:
            self._vae.to(found)
        scaled: Tensor = (moments.float() * self._vae.config.scaling_factor).cpu()
        if not torch.isfinite(scaled).all():
            raise TrainingDivergedError(
                "the autoencoder's latents of some training images are not finite numbers; set "
                "adaptation.mixed_precision=bf16 or no"
            )
        return scaled


def choose(moments_KCSS: Tensor, posterior_CSS: Tensor) -> Tensor:
    """Return one latent [C, S, S] of a mean and deviation; a sole mean is the latent."""
    if len(moments_KCSS) == 1:
        return moments_KCSS[0]
    return moments_KCSS[0] + moments_KCSS[1] * posterior_CSS


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prepared:
    """A batch as far as it can be made ready beside the training: decoded and cut, not encoded.

    Args:
        cuts: one per image, None where its latent is at hand.
        sizes_B6: height and width before, upper and left edge of the crop, height and width now.
    """

    indices: Sequence[int]
    draws: Sequence[Draw]
    cuts: Sequence[Cut | None]
    sizes_B6: Tensor


class LatentSource:
    """Latents of the training images, kept where that is exact.

    A image that can be cut in one way only (it is square, or crops are central) has one or two
    latents (mirrored or not): `cache` encodes those once, in fixed groups, so that a resumed
    training sees the same ones to the bit. All others are encoded anew each time.

    Args:
        cache_bytes: when the latents of all images would take more, none is kept.
    """

    def __init__(
        self,
        images: ImageSet,
        encoder: LatentEncoder,
        *,
        size_px: int,
        random_crop: bool,
        flip: bool,
        cache_bytes: int = 4 * GIB,
    ) -> None:
        self._images = images
        self._encoder = encoder
        self._size_px = size_px
        self._random_crop, self._flip = random_crop, flip
        self._cache_bytes = cache_bytes
        self._kept: dict[int, Tensor] = {}  # [F, K, C, S, S]
        self._sizes: dict[int, Tensor] = {}
        probe_B3PP = torch.zeros(1, 3, size_px, size_px)
        self._bytes_each = encoder.moments(probe_B3PP).nbytes * (2 if flip else 1)

    @property
    def complete(self) -> bool:
        """Whether the autoencoder is not needed any more."""
        return len(self._kept) == len(self._images)

    def cache(self, progress: Progress) -> None:
        """Encode what can be kept."""
        count = len(self._images)
        if count * self._bytes_each > self._cache_bytes:
            return
        mirrorings = (False, True) if self._flip else (False,)
        with progress.stage("encode", count, "images") as stage:
            for group in _groups(range(count), ENCODED_TOGETHER):
                cuts = {
                    index: [self._cut(index, 0.5, 0.5, flip) for flip in mirrorings]
                    for index in group
                }
                fixed = [i for i in group if cuts[i][0].choices == 1 or not self._random_crop]
                if fixed:
                    pixels_B3PP = torch.stack([c.pixels_3PP for i in fixed for c in cuts[i]])
                    moments = self._encoder.moments(pixels_B3PP).unflatten(0, (len(fixed), -1))
                    for index, moments_FKCSS in zip(fixed, moments, strict=True):
                        self._kept[index] = moments_FKCSS.clone()
                        self._sizes[index] = self._sizes_of(cuts[index][0])
                stage.advance(len(group))

    def prepare(self, indices: Sequence[int], draws: Sequence[Draw]) -> Prepared:
        """Return the batch decoded and cut; touches no model, so it may run in a thread."""
        cuts = [
            None if index in self._kept else self._cut(index, d.down, d.along, d.flip)
            for index, d in zip(indices, draws, strict=True)
        ]
        sizes = [
            self._sizes[index] if c is None else self._sizes_of(c)
            for index, c in zip(indices, cuts, strict=True)
        ]
        return Prepared(indices=indices, draws=draws, cuts=cuts, sizes_B6=torch.stack(sizes))

    def latents(self, batch: Prepared) -> Tensor:
        """Return the latents of a batch, float32 [B, C, S, S] on the CPU."""
        new = [c.pixels_3PP for c in batch.cuts if c is not None]
        encoded = iter(self._encoder.moments(torch.stack(new))) if new else iter(())
        moments = [
            self._kept[index][int(d.flip and self._flip)] if c is None else next(encoded)
            for index, d, c in zip(batch.indices, batch.draws, batch.cuts, strict=True)
        ]
        return torch.stack(
            [choose(m, d.posterior_CSS) for m, d in zip(moments, batch.draws, strict=True)]
        )

    def means(self, indices: Sequence[int], progress: Progress, name: str) -> Tensor:
        """Return the mean latents of the images' centres, unmirrored, [B, C, S, S]."""
        parts = []
        with progress.stage(name, len(indices), "images") as stage:
            for group in _groups(indices, ENCODED_TOGETHER):
                cuts = [self._cut(index, 0.5, 0.5, False, centre=True) for index in group]
                parts.append(self._encoder.moments(torch.stack([c.pixels_3PP for c in cuts]))[:, 0])
                stage.advance(len(group))
        return torch.cat(parts)

    def _cut(
        self, index: int, down: float, along: float, flip: bool, *, centre: bool = False
    ) -> Cut:
        if centre or not self._random_crop:
            down = along = 0.5
        image = self._images.image(index)
        return cut(image, self._size_px, down=down, along=along, flip=flip and self._flip)

    def _sizes_of(self, one: Cut) -> Tensor:
        return torch.tensor([*one.original_px, *one.corner_px, self._size_px, self._size_px])


def _groups(items: Iterable[int], size: int) -> Iterable[list[int]]:
    iterator = iter(items)
    while group := list(islice(iterator, size)):
        yield group
