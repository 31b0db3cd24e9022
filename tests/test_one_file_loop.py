"""The one-file recipe runs, and selects and scores what the package selects and scores."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from gendataagent.agent.filtering import FilterScores, drop
from gendataagent.agent.selection import SelectionContext, select
from gendataagent.config import FilterConfig, SelectionConfig
from gendataagent.core.records import Candidate
from gendataagent.data.bundled import cifar10_parquet
from gendataagent.data.pixels import Pixels
from gendataagent.generation.tiny.model import model_folder
from gendataagent.training.classifier import Classifier
from gendataagent.training.vog import variance_of_gradients

pytestmark = pytest.mark.integration

FILE = Path(__file__).resolve().parents[1] / "examples" / "one_file_loop.py"


@pytest.fixture(scope="module")
def recipe() -> ModuleType:
    spec = importlib.util.spec_from_file_location("one_file_loop", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve photographs of each of three classes, one folder per class."""
    root = tmp_path_factory.mktemp("photos")
    for row in pq.read_table(cifar10_parquet("train")).to_pylist():
        folder = root / {0: "airplane", 6: "frog", 8: "ship"}.get(row["label"], "")
        if folder != root:
            folder.mkdir(exist_ok=True)
            if len(list(folder.iterdir())) < 12:
                (folder / f"{row['id']}.png").write_bytes(row["image"]["bytes"])
    return root


@pytest.fixture(scope="module")
def world(recipe: ModuleType, photos: Path) -> dict[str, Any]:
    """Its images, its network after two epochs, and a snapshot after each."""
    images, labels_N, classes = recipe.read_folder(photos, 32)
    torch.manual_seed(0)
    model = recipe.network(len(classes))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    tensor_N3HW, snapshots = recipe.to_tensor(images), []
    for _ in range(2):
        recipe.train_epoch(model, optimizer, tensor_N3HW, labels_N)
        snapshots.append({name: value.clone() for name, value in model.state_dict().items()})
    classifier = Classifier.wrap(
        model, class_names=classes, size_px=32, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)
    )
    ids = [f"{index:03d}" for index in range(len(images))]
    pixels = Pixels(tensor_N3HW.__getitem__, labels_N, ids=ids, size_px=32)
    return {"model": model, "images": tensor_N3HW, "labels": labels_N, "snapshots": snapshots,
            "classifier": classifier, "pixels": pixels}  # fmt: skip


def test_it_imports_nothing_of_the_package() -> None:
    assert "gendataagent" not in FILE.read_text().replace("GenDataAgent", "")


def test_it_runs_on_a_folder_of_photographs(photos: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(FILE), str(photos), "--generator", str(model_folder()),
         "--epochs", "6", "--rounds", "1", "--rewrites", "2", "--steps", "4"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    # 36 photographs, every fifth held out; a fifth of 28 are hard. A quarter of each class goes,
    # rounded down: which classes they are of decides how many stay.
    assert "epoch 3: 6 hard images, 12 made, " in done.stdout
    assert "held-out images" in done.stdout


def test_it_selects_the_same_images(recipe: ModuleType, world: dict[str, Any]) -> None:
    scores_N = recipe.marginal_scores(world["model"], world["images"], world["labels"])
    found = recipe.hardest(scores_N, 7)
    context = SelectionContext(
        source_ids=tuple(world["pixels"].ids),
        labels_N=world["labels"].numpy(),
        probabilities_NC=world["classifier"].predict_probabilities(world["pixels"]).numpy(),
        seed=0,
    )
    expected = select(context, SelectionConfig(by="marginal", share=7 / 36))
    assert [world["pixels"].ids[i] for i in found] == [scored.source_id for scored in expected]
    np.testing.assert_allclose(scores_N[found], [s.score for s in expected], rtol=1e-5)


def test_it_has_the_same_vog_and_keeps_the_same_images(
    recipe: ModuleType, world: dict[str, Any]
) -> None:
    found_N = recipe.variance_of_gradients(
        world["model"], world["snapshots"], world["images"], world["labels"]
    )
    expected_N = variance_of_gradients(world["classifier"], world["snapshots"], world["pixels"])
    torch.testing.assert_close(found_N, expected_N, rtol=1e-4, atol=1e-7)

    kept = recipe.keep_highest(found_N, world["labels"], 0.25)
    candidates = [
        Candidate(
            id=id_, round=0, source_id=id_, label=int(label), class_name="", variant=0, seed=0,
            strength=0.75, guidance_scale=7.5, num_inference_steps=4, negative_prompt="",
            marginal_score=0.5,
        )
        for id_, label in zip(world["pixels"].ids, world["labels"], strict=True)
    ]  # fmt: skip
    judged = drop(candidates, FilterScores(expected_N.numpy()), FilterConfig(drop_share=0.25))
    assert [world["pixels"].ids[i] for i in kept] == [c.id for c in judged if c.kept]
    assert len(kept) == 27
