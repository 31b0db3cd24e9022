"""The bundled model and images, through the loaders a user would use."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gendataagent.core.errors import DataError, ModelError
from gendataagent.data import bundled
from gendataagent.data.bundled import cifar10_parquet
from gendataagent.generation.tiny import model
from gendataagent.generation.tiny.model import model_folder
from gendataagent.generation.tiny.vocabulary import MEANING

CLASS_NAMES = [
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
]


@pytest.mark.parametrize(("split", "each"), [("train", 100), ("validation", 50), ("test", 150)])
def test_every_split_is_balanced(split: str, each: int) -> None:
    from datasets import Dataset

    rows = Dataset.from_parquet(str(cifar10_parquet(split)), keep_in_memory=True)
    assert rows.features["label"].names == CLASS_NAMES
    assert np.bincount(rows["label"]).tolist() == [each] * 10
    assert len(set(rows["id"])) == len(rows)
    assert rows[0]["image"].size == (32, 32)
    assert rows[0]["image"].mode == "RGB"


def test_splits_use_only_rows_unseen_by_the_generator() -> None:
    from datasets import Dataset

    ids: dict[str, set[str]] = {
        split: set(Dataset.from_parquet(str(cifar10_parquet(split)), keep_in_memory=True)["id"])
        for split in bundled.SPLITS
    }
    assert not ids["train"] & ids["validation"]
    for name in ids["train"] | ids["validation"]:
        source, part, row = name.split("-")
        assert (source, part) == ("cifar10", "train")
        assert 40_000 <= int(row) < 50_000, "the bundled generator has seen this image"
    assert {name.rsplit("-", 1)[0] for name in ids["test"]} == {"cifar10-test"}


def test_the_bundled_model_is_small_and_has_no_pickle() -> None:
    files = [file for file in model_folder().rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 30 * 2**20
    assert {file.suffix for file in files} <= {".safetensors", ".json", ".txt", ".md"}


def test_the_pipeline_of_diffusers_loads_it_and_generates() -> None:
    from diffusers import StableDiffusionImg2ImgPipeline

    pipeline = StableDiffusionImg2ImgPipeline.from_pretrained(model_folder())
    pipeline.set_progress_bar_config(disable=True)
    source = Image.new("RGB", (32, 32), (40, 160, 40))
    made = pipeline(
        "A photo of frog, which is brown, on a green background",
        image=source,
        strength=0.75,
        num_inference_steps=8,
        generator=torch.Generator().manual_seed(0),
    ).images[0]
    pixels = np.asarray(made, dtype=np.float32)
    assert pixels.shape == (32, 32, 3)
    assert pixels.std() > 10, "a flat image"
    green_lead = pixels[..., 1].mean() - (pixels[..., 0].mean() + pixels[..., 2].mean()) / 2
    assert green_lead > 5, "a green background was asked for and given"


def test_every_word_of_the_captions_is_one_token() -> None:
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(model_folder() / "tokenizer")
    words = {word for wording in MEANING for word in wording.split()}
    assert [word for word in sorted(words) if len(tokenizer.tokenize(word)) != 1] == []


def test_missing_assets_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "FOLDER", tmp_path)
    monkeypatch.setattr(bundled, "ASSETS", tmp_path)
    with pytest.raises(ModelError, match="reinstall gendataagent"):
        model_folder()
    with pytest.raises(DataError, match="reinstall gendataagent"):
        cifar10_parquet("train")
    with pytest.raises(DataError, match="no split 'dev'"):
        cifar10_parquet("dev")
