"""A small real world: photographs of three classes and settings that finish in seconds."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from gendataagent.config import RunConfig
from gendataagent.data.bundled import cifar10_parquet

PER_CLASS = {"train": 8, "validation": 4, "test": 4}
CLASSES = {0: "airplane", 5: "dög mit Leerzeichen", 8: "ship"}


@pytest.fixture(scope="session")
def photo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real photographs from the bundled slice as split/class/*.png."""
    return write_photos(tmp_path_factory.mktemp("photos"))


def write_photos(root: Path, **per_class: int) -> Path:
    """Write the photographs as root/split/class/*.png; return `root`.

    Args:
        per_class: split -> photographs of each class, where not as in `PER_CLASS`.
    """
    for split, count in {**PER_CLASS, **per_class}.items():
        taken = dict.fromkeys(CLASSES, 0)
        for row in pq.read_table(cifar10_parquet(split)).to_pylist():
            label = row["label"]
            if taken.get(label, count) >= count:
                continue
            taken[label] += 1
            path = root / split / CLASSES[label] / f"{row['id']}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(row["image"]["bytes"])
    return root


def settings_for(photos: Path, generator: Path) -> RunConfig:
    """Two rounds in four epochs; the second round has enough checkpoints for the VoG filter."""
    return RunConfig.from_dict(
        {
            "seed": 7,
            "device": "cpu",
            "threads": 1,
            "data": {"path": str(photos)},
            "training": {
                "epochs": 4,
                "steps_per_epoch": 2,
                "batch_size": 8,
                "learning_rate": 0.02,
            },
            "agent": {"rounds": 2, "first_round_epoch": 1},
            "selection": {"share": 0.25},
            "prompting": {"rewrites": 3},
            "generation": {
                "generator": str(generator),
                "num_inference_steps": 2,
                "strength": 0.75,
                "guidance_scale": 2.0,
                "chunk_size": 4,
                "batch_size": 4,
            },
            "filter": {"drop_share": 0.4, "snapshot_at": [0.25, 0.5]},
        }
    )


@pytest.fixture
def small_config(photo_folder: Path, tiny_pipeline_folder: Path) -> RunConfig:
    """Settings for the photographs and a generator with random weights."""
    return settings_for(photo_folder, tiny_pipeline_folder)
