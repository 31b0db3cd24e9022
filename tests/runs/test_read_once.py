"""What a run builds and decodes, counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gendataagent.agent import pool, synthetic
from gendataagent.config import RunConfig
from gendataagent.core import files
from gendataagent.data import LabelledImages
from gendataagent.generation import backends
from gendataagent.runs.run import run
from gendataagent.runs.splits import read_splits
from tests.tables import rows_of

pytestmark = pytest.mark.integration


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count what is built of the tables of captioners, rewriters and generators."""
    counts: Counter[str] = Counter()

    def counting(name: str, build: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any) -> Any:
            counts[name] += 1
            return build(*arguments)

        return counted

    for name in ("CAPTIONERS", "REWRITERS"):
        table = getattr(backends, name)
        counted = {key: counting(name, build) for key, build in table.items()}
        monkeypatch.setattr(backends, name, counted)
    monkeypatch.setattr(backends, "build_generator", counting("G", backends.build_generator))
    return counts


def test_a_run_builds_its_models_once_and_decodes_no_image_twice(
    small_config: RunConfig, tmp_path: Path, built: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real: Counter[str] = Counter()
    made: Counter[str] = Counter()
    decode, read = LabelledImages.image, synthetic.read_png

    def counting_image(self: LabelledImages, index: int) -> Image.Image:
        real[self.ids[index]] += 1
        return decode(self, index)

    def counting_png(path: Path) -> Image.Image:
        made[path.name] += 1
        return read(path)

    monkeypatch.setattr(LabelledImages, "image", counting_image)
    monkeypatch.setattr(synthetic, "read_png", counting_png)
    monkeypatch.setattr(pool, "read_png", counting_png)
    config = replace(small_config, agent=replace(small_config.agent, pool="accumulate"))
    result = run(config, tmp_path / "run")
    assert built == {"CAPTIONERS": 1, "REWRITERS": 1, "G": 1}
    assert len(made) == result.images_made == 36
    assert set(made.values()) == {1}
    sources = {
        row["source_id"]
        for path in tmp_path.glob("run/rounds/*/selected.parquet")
        for row in rows_of(path)
    }
    train = [id_ for id_ in real if id_.startswith("train/")]
    assert len(train) == 24
    for id_ in train:  # once for the classifier, once to make images from
        assert real[id_] == (2 if id_ in sources else 1)
    thumbnails = list(tmp_path.glob("run/rounds/000/sources/*.png"))
    assert len(thumbnails) == 6
    splits = read_splits(tmp_path / "run")
    written = files.read_jsonl(tmp_path / "run" / "data" / "splits.jsonl")
    assert splits.to_rows() == written
