"""Training images as latents of a pipeline's autoencoder, cropped and flipped at random.

Letters in tensor names: B images of a batch, F = 1 or 2 (unflipped, flipped), K = 1 or 2 (mean,
standard deviation), C latent channels, S side of a latent, 3 colours, P side of an image in px.
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

ENCODE_BATCH_SIZE = 8


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RandomDraw:
    """Everything random about one image in one epoch, whatever its batch.

    Args:
        timestep: of the noise schedule.
        top, left: position of the crop, each as a share in [0, 1) of the possible positions.
        flip: whether the image is flipped left to right.
        noise_CSS: the noise added to the latent.
        posterior_CSS: standard normal values that sample the autoencoder's latent distribution.
    """

    timestep: int
    top: float
    left: float
    flip: bool
    noise_CSS: Tensor
    posterior_CSS: Tensor


def random_draw(
    seed: int, epoch: int, image_id: str, *, shape_CSS: tuple[int, int, int], timesteps: int
) -> RandomDraw:
    """Return the draw of an image in an epoch; a pure function of the arguments."""
    generator = torch.Generator().manual_seed(derive_seed(seed, "adapt", epoch, image_id))
    uniform_3 = torch.rand(3, generator=generator).tolist()
    return RandomDraw(
        timestep=int(torch.randint(timesteps, (), generator=generator)),
        top=uniform_3[0],
        left=uniform_3[1],
        flip=uniform_3[2] < 0.5,
        noise_CSS=torch.randn(shape_CSS, generator=generator),
        posterior_CSS=torch.randn(shape_CSS, generator=generator),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Crop:
    """An image resized and cropped for training.

    Args:
        pixels_3PP: in [-1, 1].
        original_px: height and width before.
        corner_px: top and left edge of the crop, after resizing.
        positions: number of possible positions of the crop.
    """

    pixels_3PP: Tensor
    original_px: tuple[int, int]
    corner_px: tuple[int, int]
    positions: int


def crop(image: Image.Image, size_px: int, *, top: float, left: float, flip: bool) -> Crop:
    """Return a square crop of `size_px`, as Real-Fake's code makes it.

    The shorter side is resized to `size_px` (bilinear), then the square is cropped, then flipped.
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
    top_px, left_px = int(top * (height - size_px + 1)), int(left * (width - size_px + 1))
    box = (left_px, top_px, left_px + size_px, top_px + size_px)
    square = resized.crop(box).convert("RGB")
    if flip:
        square = square.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    pixels_3PP = torch.from_numpy(np.array(square)).permute(2, 0, 1).float() / 127.5 - 1
    return Crop(
        pixels_3PP=pixels_3PP,
        original_px=(image.height, image.width),
        corner_px=(top_px, left_px),
        positions=(height - size_px + 1) * (width - size_px + 1),
    )


class LatentEncoder:
    """The autoencoder of a pipeline: from pixels to the latents its UNet works on.

    SDXL's overflows in fp16, so it encodes in single precision whatever the dtype of its weights.
    """

    def __init__(self, pipeline: Any) -> None:
        self._vae = pipeline.vae
        is_sdxl = getattr(pipeline, "text_encoder_2", None) is not None
        self._in_float32 = is_sdxl and bool(getattr(self._vae.config, "force_upcast", False))
        if getattr(self._vae.config, "latents_mean", None) is not None:
            raise ModelError(
                "generation.generator: its autoencoder shifts latents channel by channel "
                "(latents_mean), which adaptation does not support; name a Stable Diffusion 1, 2 "
                "or XL"
            )

    def moments(self, pixels_B3PP: Tensor) -> Tensor:
        """Return the scaled mean and standard deviation of the latents, float32 on the CPU.

        [B, 2, C, S, S], or [B, 1, C, S, S] for an autoencoder without a distribution.

        Raises:
            TrainingDivergedError: they are not finite.
        """
        dtype = self._vae.dtype
        if self._in_float32:
            self._vae.to(torch.float32)
        with torch.no_grad():
            encoded = self._vae.encode(pixels_B3PP.to(self._vae.device, self._vae.dtype))
            if hasattr(encoded, "latent_dist"):
                moments = torch.stack([encoded.latent_dist.mean, encoded.latent_dist.std], dim=1)
            else:
                moments = encoded.latents[:, None]
        if self._in_float32:
            self._vae.to(dtype)
        scaled: Tensor = (moments.float() * self._vae.config.scaling_factor).cpu()
        if not torch.isfinite(scaled).all():
            raise TrainingDivergedError(
                "the autoencoder's latents of some training images are not finite numbers; set "
                "adaptation.mixed_precision=bf16 or no"
            )
        return scaled


def sample_latent(moments_KCSS: Tensor, posterior_CSS: Tensor) -> Tensor:
    """Return one latent [C, S, S] of the distribution; without a deviation it is the mean."""
    if len(moments_KCSS) == 1:
        return moments_KCSS[0]
    return moments_KCSS[0] + moments_KCSS[1] * posterior_CSS


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PreparedBatch:
    """A batch decoded and cropped but not encoded, so that no model is needed to prepare it.

    Args:
        crops: one per image, None where its latent is cached.
        sizes_B6: original height and width, top and left edge of the crop, final height and width.
    """

    indices: Sequence[int]
    draws: Sequence[RandomDraw]
    crops: Sequence[Crop | None]
    sizes_B6: Tensor


class LatentSource:
    """Latents of the training images, cached where that is exact.

    An image with a single possible crop (square, or crops are central) has one or two latents
    (unflipped, flipped). `cache` encodes these once, in fixed batches, so that a resumed training
    sees the same latents to the bit. All other images are encoded again in every epoch.

    Args:
        cache_bytes: if the latents of all images would take more, none is cached.
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
        self._cached: dict[int, Tensor] = {}  # [F, K, C, S, S]
        self._sizes: dict[int, Tensor] = {}
        probe_B3PP = torch.zeros(1, 3, size_px, size_px)
        self._bytes_each = encoder.moments(probe_B3PP).nbytes * (2 if flip else 1)

    @property
    def fully_cached(self) -> bool:
        """Whether training needs the autoencoder no more."""
        return len(self._cached) == len(self._images)

    def cache(self, progress: Progress) -> None:
        """Encode every image that has a single possible crop."""
        count = len(self._images)
        if count * self._bytes_each > self._cache_bytes:
            return
        flips = (False, True) if self._flip else (False,)
        with progress.stage("encode", count, "images") as stage:
            for group in _batches(range(count), ENCODE_BATCH_SIZE):
                crops = {
                    index: [self._crop(index, 0.5, 0.5, flip) for flip in flips] for index in group
                }
                fixed = [i for i in group if crops[i][0].positions == 1 or not self._random_crop]
                if fixed:
                    pixels_B3PP = torch.stack([c.pixels_3PP for i in fixed for c in crops[i]])
                    moments = self._encoder.moments(pixels_B3PP).unflatten(0, (len(fixed), -1))
                    for index, moments_FKCSS in zip(fixed, moments, strict=True):
                        self._cached[index] = moments_FKCSS.clone()
                        self._sizes[index] = self._sizes_of(crops[index][0])
                stage.advance(len(group))

    def prepare(self, indices: Sequence[int], draws: Sequence[RandomDraw]) -> PreparedBatch:
        """Return the batch decoded and cropped; uses no model, so it may run in a thread."""
        crops = [
            None if index in self._cached else self._crop(index, d.top, d.left, d.flip)
            for index, d in zip(indices, draws, strict=True)
        ]
        sizes = [
            self._sizes[index] if c is None else self._sizes_of(c)
            for index, c in zip(indices, crops, strict=True)
        ]
        return PreparedBatch(indices=indices, draws=draws, crops=crops, sizes_B6=torch.stack(sizes))

    def latents(self, batch: PreparedBatch) -> Tensor:
        """Return the latents of a batch, float32 [B, C, S, S] on the CPU."""
        new = [c.pixels_3PP for c in batch.crops if c is not None]
        encoded = iter(self._encoder.moments(torch.stack(new))) if new else iter(())
        moments = [
            self._cached[index][int(d.flip and self._flip)] if c is None else next(encoded)
            for index, d, c in zip(batch.indices, batch.draws, batch.crops, strict=True)
        ]
        return torch.stack(
            [sample_latent(m, d.posterior_CSS) for m, d in zip(moments, batch.draws, strict=True)]
        )

    def means(self, indices: Sequence[int], progress: Progress, name: str) -> Tensor:
        """Return the mean latents of the images' centres, unflipped, [B, C, S, S]."""
        parts = []
        with progress.stage(name, len(indices), "images") as stage:
            for group in _batches(indices, ENCODE_BATCH_SIZE):
                crops = [self._crop(index, 0.5, 0.5, False, central=True) for index in group]
                pixels_B3PP = torch.stack([c.pixels_3PP for c in crops])
                parts.append(self._encoder.moments(pixels_B3PP)[:, 0])
                stage.advance(len(group))
        return torch.cat(parts)

    def _crop(
        self, index: int, top: float, left: float, flip: bool, *, central: bool = False
    ) -> Crop:
        if central or not self._random_crop:
            top = left = 0.5
        image = self._images.image(index)
        return crop(image, self._size_px, top=top, left=left, flip=flip and self._flip)

    def _sizes_of(self, found: Crop) -> Tensor:
        return torch.tensor([*found.original_px, *found.corner_px, self._size_px, self._size_px])


def _batches(items: Iterable[int], size: int) -> Iterable[list[int]]:
    iterator = iter(items)
    while group := list(islice(iterator, size)):
        yield group
