"""Not a generator: finds images in a folder of the user's own, unlabelled, like a source image.

Geng et al., NeurIPS 2024: real images retrieved by an image-text encoder, as the baseline that
generated images have to beat.

Letters in tensor names: N images of the folder, B requests, D features.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np
import torch
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from gendataagent.config import DataConfig, RunConfig
from gendataagent.core import files, hub
from gendataagent.core.cache import cache_folder
from gendataagent.core.errors import ConfigError, DataError, StorageError
from gendataagent.core.files import expand
from gendataagent.core.protocols import Rendered, RenderRequest
from gendataagent.core.records import RETRIEVAL, ModelDescription
from gendataagent.data.decoding.images import centre_square
from gendataagent.data.duplicates.near_duplicates import References
from gendataagent.data.duplicates.sketches import sketch
from gendataagent.data.generator_corpus import (
    GeneratorCorpus,
    check_generator_corpus,
    corpus_files,
    load_generator_corpus,
)
from gendataagent.generation.image_text import (
    ImageTextEncoder,
    check_text_model,
    text_model_source,
)

ORIGINAL = "original"  # text inside the PNG: which file of the folder it is
NONE_LEFT = "no-more-images"
_SIZE_PX = 512
_AT_ONCE = 16  # neighbours compared with the source at once


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrievalFactory:
    """Names a folder and an encoder; picklable, so that each worker builds its own.

    Args:
        folder: of images, or parquet with images; labels are not read.
        model, revision: an image-text encoder of transformers.
        size_px: longest side of the squares returned; 0 = 512.
    """

    folder: str
    model: str
    revision: str
    size_px: int
    device: str
    data: DataConfig

    @classmethod
    def from_config(cls, config: RunConfig, device: str) -> Self:
        """Return the factory of the settings.

        Raises:
            ConfigError: no folder is named.
        """
        settings = config.generation
        if not settings.retrieval_folder:
            raise ConfigError(
                "generation.generator = retrieval needs generation.retrieval_folder: a folder of "
                "your own images, without labels"
            )
        return cls(
            folder=str(expand(settings.retrieval_folder)),
            model=settings.retrieval_model,
            revision=settings.revision,
            size_px=settings.size_px,
            device=device,
            # what the readers of an unlabelled folder need, so that other settings do not matter
            data=replace(
                DataConfig(),
                image_column=config.data.image_column,
                image_root=config.data.image_root,
                max_megapixels=config.data.max_megapixels,
            ),
        )

    def check(self) -> None:
        """Raise `ModelError` or `DataError` for every fault that shows without encoding."""
        check_text_model(self._source)
        self.check_folder()

    def check_folder(self) -> None:
        """Raise `DataError` if the folder has no images; uses no network."""
        try:
            check_generator_corpus(self.folder, self.data)
        except DataError as error:
            raise DataError(f"generation.retrieval_folder: {error}") from error

    def describe(self) -> ModelDescription:
        """Return the encoder, and a hash of the names and contents of the folder's files.

        Raises:
            DataError: a file cannot be read.
        """
        try:
            content = hub.hash_of_files(corpus_files(self.folder, self.data))
        except DataError as error:
            raise DataError(f"generation.retrieval_folder: {error}") from error
        except OSError as error:
            raise DataError(
                f"generation.retrieval_folder: {error.filename} cannot be read: "
                f"{error.strerror or error}; remove it or make it readable"
            ) from error
        return ModelDescription(
            name=RETRIEVAL, revision=f"{hub.revision_of(self._source)}+folder:{content}"
        )

    def __call__(self) -> RetrievalGenerator:
        """Load the encoder and list the folder.

        Raises:
            ModelError: the encoder cannot be loaded.
            DataError: no readable image in the folder.
        """
        encoder = ImageTextEncoder(self._source, torch.device(self.device))
        corpus = load_generator_corpus(self.folder, self.data)
        return RetrievalGenerator(corpus, encoder, self.describe(), self.size_px or _SIZE_PX)

    @property
    def _source(self) -> hub.ModelSource:
        return text_model_source("generation.retrieval_model", self.model, self.revision)


class RetrievalGenerator:
    """Returns the images of a folder that are most like each request's source.

    The first image of a source is its nearest neighbour by cosine similarity of the encoder's
    features, the second the next, and so on. Copies of the source itself are left out. A PNG says
    inside which file it is.
    """

    def __init__(
        self,
        corpus: GeneratorCorpus,
        encoder: ImageTextEncoder,
        description: ModelDescription,
        size_px: int,
    ) -> None:
        self._corpus, self._encoder, self._size_px = corpus, encoder, size_px
        self.description = description

    def render(self, requests: Sequence[RenderRequest]) -> list[Rendered]:
        """Return one image per request, in order.

        One beyond the folder's last neighbour is rejected as no-more-images.
        """
        if not requests:
            return []
        sources = [request.source for request in requests]
        features_BD = self._encoder.images(sources.__getitem__, len(sources))
        return [
            self._found(request, feature_D)
            for request, feature_D in zip(requests, features_BD, strict=True)
        ]

    def _found(self, request: RenderRequest, feature_D: Tensor) -> Rendered:
        # one product for each request: its rounding does not depend on the others
        similar_N = self._features @ feature_D
        order = torch.sort(similar_N, descending=True, stable=True).indices.tolist()
        own = sketch(request.source)[None]
        left = request.variant
        for start in range(0, len(order), _AT_ONCE):
            rows = order[start : start + _AT_ONCE]
            copies = References(self._corpus.sketches_N[rows]).near_duplicates(own)
            others = [r for i, r in enumerate(rows) if i not in {c.reference for c in copies}]
            if left < len(others):
                return self._rendered(others[left])
            left -= len(others)
        return Rendered(image=None, rejected_by=NONE_LEFT)

    def _rendered(self, row: int) -> Rendered:
        image = self._corpus.images.image(row)
        square = centre_square(image, min(self._size_px, *image.size))
        about, buffer = PngInfo(), io.BytesIO()
        about.add_text(ORIGINAL, self._corpus.images.ids[row].replace("\0", ""))
        square.save(buffer, "PNG", pnginfo=about)
        return Rendered.of_png(buffer.getvalue(), None)

    @cached_property
    def _features(self) -> Tensor:
        """Features of the folder's images, [N, D]; kept in the cache folder for the next run."""
        images = self._corpus.images
        content = hashlib.blake2b(self.description.revision.encode(), digest_size=16)
        for id_, digest in zip(images.ids, images.content_hashes(), strict=True):
            content.update(f"{id_}\0{digest}\0".encode())
        try:
            path = cache_folder() / "retrieval" / f"{content.hexdigest()}.npy"
        except StorageError:
            return self._encoder.images(images.image, len(images))
        if (known := files.read_cached(path)) is not None:
            try:
                found = np.load(io.BytesIO(known), allow_pickle=False)
                if len(found) == len(images):
                    return torch.from_numpy(found)
            except ValueError:
                pass  # damaged: made again
        features_ND = self._encoder.images(images.image, len(images))
        buffer = io.BytesIO()
        np.save(buffer, features_ND.numpy())
        files.write_cached(path, buffer.getvalue())
        return features_ND
