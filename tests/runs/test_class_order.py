"""The order of class names may differ between data, run and checkpoint: labels follow the names."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gendataagent.config import RunConfig
from gendataagent.core.progress import SilentProgress
from gendataagent.core.records import RunManifest
from gendataagent.core.rows import read_record
from gendataagent.core.run_folder import RunFolder
from gendataagent.runs.reload import load_classifier
from gendataagent.runs.results import read_result
from gendataagent.runs.run import resume, run, run_until
from gendataagent.runs.splits import read_splits
from tests.small_world import settings_for

pytestmark = pytest.mark.integration

NAMES = ["ship", "airplane", "dög mit Leerzeichen"]


def write(root: Path, photos: Path, names: list[str]) -> Path:
    """Write the photographs as a table a split, with class labels in this order."""
    root.mkdir(exist_ok=True)
    kinds = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
    info = json.dumps({"info": {"features": kinds}}).encode()
    for split in ("train", "validation", "test"):
        paths = sorted((photos / split).glob("*/*.png"))
        columns = {
            "image": [{"bytes": path.read_bytes(), "path": None} for path in paths],
            "label": [names.index(path.parent.name) for path in paths],
            "id": [path.stem for path in paths],
        }
        table = pa.table(columns).replace_schema_metadata({b"huggingface": info})
        pq.write_table(table, root / f"{split}.parquet")
    return root


class Saying(SilentProgress):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)


def settings(data: Path, generator: Path, **classifier: str) -> RunConfig:
    config = settings_for(data, generator)
    return replace(
        config,
        agent=replace(config.agent, enabled=False),
        training=replace(config.training, epochs=2),
        classifier=replace(config.classifier, **classifier),  # type: ignore[arg-type]
    )


@pytest.fixture(scope="module")
def finished(
    photo_folder: Path, tiny_pipeline_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    place = tmp_path_factory.mktemp("class-order")
    data = write(place / "data", photo_folder, NAMES)
    run(settings(data, tiny_pipeline_folder), place / "run")
    return place / "run"


def test_a_stopped_run_ends_the_same_though_the_data_numbers_its_classes_otherwise(
    finished: Path, photo_folder: Path, tiny_pipeline_folder: Path, tmp_path: Path
) -> None:
    data = write(tmp_path / "data", photo_folder, NAMES)
    config = settings(data, tiny_pipeline_folder)
    run_until(config, tmp_path / "run", 1)
    write(data, photo_folder, NAMES[::-1])
    resume(tmp_path / "run")
    assert read_result(tmp_path / "run").evaluations == read_result(finished).evaluations
    splits = read_splits(tmp_path / "run")
    assert splits.class_names == tuple(NAMES)
    assert splits.test.labels == read_splits(finished).test.labels


def test_a_checkpoint_with_the_classes_in_another_order_is_read_by_name_and_said(
    finished: Path, photo_folder: Path, tiny_pipeline_folder: Path, tmp_path: Path
) -> None:
    data = write(tmp_path / "data", photo_folder, NAMES[::-1])
    config = settings(data, tiny_pipeline_folder, model=str(finished / "classifier"))
    progress = Saying()
    run(config, tmp_path / "run", progress=progress)
    (said,) = [sentence for sentence in progress.said if "output layer" in sentence]
    assert "was reordered by class name" in said
    assert said in read_record(RunManifest, RunFolder(tmp_path / "run").manifest_file).notes
    assert load_classifier(tmp_path / "run").class_names == tuple(NAMES[::-1])
