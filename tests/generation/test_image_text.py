"""An image-text encoder: equal to transformers' own answer, alone or in any batch, or refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gendataagent.core.errors import ModelError
from gendataagent.generation.image_text import (
    ImageTextEncoder,
    check_text_model,
    text_model_source,
)
from tests.tiny_models import save_tiny_clip

CPU = torch.device("cpu")
TEXTS = ("A photo of cat", "A photo of dog sled", "A photo of a very long name " * 20)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_clip(tmp_path_factory.mktemp("models") / "clip")


def encoder_of(folder: Path) -> ImageTextEncoder:
    return ImageTextEncoder(text_model_source("filter.text_model", str(folder), ""), CPU)


def image(number: int) -> Image.Image:
    values = np.random.default_rng(number).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    return Image.fromarray(values)


def test_probabilities_are_those_of_the_model(clip: Path) -> None:
    from transformers import CLIPModel, CLIPProcessor

    found = encoder_of(clip).probabilities(image, 3, TEXTS)
    model = CLIPModel.from_pretrained(clip).eval()
    processor = CLIPProcessor.from_pretrained(clip, backend="pil")
    inputs = processor(
        text=list(TEXTS), images=[image(i) for i in range(3)], return_tensors="pt",
        padding="max_length", truncation=True, max_length=77,
    )  # fmt: skip
    with torch.no_grad():
        expected = model(**inputs).logits_per_image.softmax(dim=1)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert found.sum(dim=1).tolist() == pytest.approx([1.0] * 3)


def test_an_image_gets_the_same_whatever_it_is_encoded_with(clip: Path) -> None:
    encoder = encoder_of(clip)
    together = encoder.images(image, 37)
    for number in (0, 31, 32, 36):
        alone = encoder.images(lambda _, n=number: image(n), 1)  # type: ignore[misc]
        assert torch.equal(alone[0], together[number])


def test_another_kind_of_model_and_damaged_ones_are_refused(
    clip: Path, tiny_pipeline_folder: Path, tmp_path: Path
) -> None:
    def check(folder: Path) -> None:
        check_text_model(text_model_source("filter.text_model", str(folder), ""))

    check(clip)
    text_encoder = tiny_pipeline_folder / "text_encoder"
    with pytest.raises(ModelError, match=r"filter\.text_model: .* does not compare images with"):
        check(text_encoder)
    with pytest.raises(ModelError, match=r"filter\.text_model.*no folder"):
        check(tmp_path / "none")
    damaged = Path(shutil.copytree(clip, tmp_path / "damaged"))
    (damaged / "model.safetensors").write_bytes(b"short")
    with pytest.raises(ModelError, match=r"filter\.text_model"):
        check(damaged)
