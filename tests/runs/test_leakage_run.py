"""Near-duplicates of held-out images in a run, and the command that counts them."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from PIL import Image, ImageEnhance, ImageOps

from gendataagent import cli
from gendataagent.config import DataConfig, RunConfig
from gendataagent.core import files
from gendataagent.core.errors import DataError
from gendataagent.core.protocols import Rendered, RenderRequest
from gendataagent.core.records import ModelDescription
from gendataagent.data import load_data
from gendataagent.data.generator_corpus import load_generator_corpus
from gendataagent.generation.backends import build_backends
from gendataagent.generation.executors import SerialExecutor
from gendataagent.runs.audit import audit_data
from gendataagent.runs.run import resume, run, run_until
from tests.tables import rows_of

pytestmark = pytest.mark.integration


def disguise(source: Path, target: Path) -> None:
    """Save an image under another name, mirrored, brighter and as JPEG."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(source) as image:
        changed = ImageEnhance.Brightness(ImageOps.mirror(image.convert("RGB"))).enhance(1.1)
    changed.save(target, "JPEG", quality=90)


@pytest.fixture
def leaky(photo_folder: Path, tmp_path: Path) -> Path:
    """The photographs, with a test image among the training images under another name."""
    root = tmp_path / "leaky"
    shutil.copytree(photo_folder, root)
    source = sorted((root / "test/ship").iterdir())[0]
    disguise(source, root / "train/ship/holiday.jpg")
    return root


class Copier:
    """Returns the source image, or a copy of a held-out image for every second seed."""

    description = ModelDescription(name="copier")

    def __init__(self, copies: Sequence[Path]) -> None:
        self._copies = copies

    def render(self, requests: Sequence[RenderRequest]) -> list[Rendered]:
        return [Rendered(image=self._image(request)) for request in requests]

    def _image(self, request: RenderRequest) -> Image.Image:
        if request.seed % 2:
            return request.source.convert("RGB")
        with Image.open(self._copies[request.seed // 2 % len(self._copies)]) as image:
            return ImageOps.mirror(image.convert("RGB"))


@dataclass(frozen=True)
class CopierFactory:
    copies: tuple[Path, ...]

    def __call__(self) -> Copier:
        return Copier(self.copies)

    def describe(self) -> ModelDescription:
        return Copier.description


def _type(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["gendataagent", *arguments])
    monkeypatch.setenv("COLUMNS", "200")
    try:
        cli.main()
    except SystemExit as exit_:
        return int(exit_.code or 0)
    return 0


def test_a_run_removes_and_lists_near_duplicates_and_resumes_with_the_same_data(
    leaky: Path, small_config: RunConfig, tmp_path: Path
) -> None:
    config = replace(small_config, data=DataConfig(path=str(leaky)))
    config = replace(config, agent=replace(config.agent, enabled=False))
    run_until(config, tmp_path / "run", 2)
    (row,) = files.read_jsonl(tmp_path / "run/data/near_duplicates.jsonl")
    assert (row["id"], row["reference_split"], row["mirrored"], row["removed"]) == (
        "train/ship/holiday.jpg", "test", True, True,
    )  # fmt: skip
    manifest = files.read_json(tmp_path / "run/manifest.json")
    assert "Removed near-duplicates across splits: 1 in train of test images." in manifest["notes"]
    assert manifest["images_per_split"] == {"train": 24, "validation": 12, "test": 12}
    assert manifest["data_fingerprint"] == load_data(config.data, seed=config.seed).fingerprint
    assert resume(tmp_path / "run").evaluations["train"].images == 24


def test_synthetic_copies_of_held_out_images_are_rejected_before_the_filter(
    photo_folder: Path, small_config: RunConfig, tmp_path: Path
) -> None:
    copies = tuple(
        sorted((photo_folder / split / "ship").iterdir())[0] for split in ("test", "validation")
    )
    backends = replace(
        build_backends(small_config), generator=CopierFactory(copies), executor=SerialExecutor()
    )
    result = run(small_config, tmp_path / "run", backends=backends)
    judged = [
        row
        for number in (0, 1)
        for row in rows_of(tmp_path / f"run/rounds/{number:03d}/judged.parquet")
    ]
    reasons = {"repeats-test-image", "repeats-validation-image"}
    for row in judged:
        if row["seed"] % 2:
            assert row["rejected_by"] not in reasons
        else:
            split = ("test", "validation")[row["seed"] // 2 % 2]
            assert row["rejected_by"] == f"repeats-{split}-image"
            assert row["vog"] is None
    assert {row["rejected_by"] for row in judged} >= reasons
    record = result.rounds[0]
    assert record.made == 18
    assert record.rejected["repeats-test-image"] == sum(
        row["rejected_by"] == "repeats-test-image" for row in judged if row["round"] == 0
    )
    found = audit_data(small_config.data, seed=small_config.seed, run=tmp_path / "run")
    counts = {one.title: len(one.reports["test"].ids) for one in found.sets}
    assert counts["synthetic, kept"] == counts["train"] == 0
    assert counts["synthetic, rejected"] == sum(
        row["rejected_by"] == "repeats-test-image" for row in judged
    )


def test_off_rejects_nothing(photo_folder: Path, small_config: RunConfig, tmp_path: Path) -> None:
    copies = (sorted((photo_folder / "test/ship").iterdir())[0],)
    config = replace(small_config, data=replace(small_config.data, near_duplicates="off"))
    backends = replace(
        build_backends(config), generator=CopierFactory(copies), executor=SerialExecutor()
    )
    result = run(config, tmp_path / "run", backends=backends)
    assert all("repeats-test-image" not in record.rejected for record in result.rounds)


def test_the_command_counts_and_writes_pairs_in_train_and_a_corpus(
    leaky: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    corpus = tmp_path / "corpus"
    disguise(sorted((leaky / "validation/ship").iterdir())[1], corpus / "deep/er/x.jpg")
    disguise(sorted((leaky / "train/airplane").iterdir())[1], corpus / "y.jpg")
    (corpus / "broken.jpg").write_bytes(b"no image")
    page, lines = tmp_path / "pairs.html", tmp_path / "pairs.jsonl"
    for out in (page, lines):
        code = _type(
            monkeypatch, "audit", "--data", str(leaky), "--corpus", str(corpus), "--out", str(out)
        )  # fmt: skip
        assert code == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["train", "25", "1", "0"] in [line[:4] for line in rows]
    assert ["corpus", "2", "0", "1"] in [line[:4] for line in rows]
    pairs = files.read_jsonl(lines)
    assert {(pair["set"], pair["id"], pair["reference_split"]) for pair in pairs} == {
        ("train", "train/ship/holiday.jpg", "test"), ("corpus", "deep/er/x.jpg", "validation"),
    }  # fmt: skip
    assert page.read_text().count("<img") == 4
    assert "holiday.jpg" in page.read_text()
    assert (leaky / "train/ship/holiday.jpg").exists()


def test_the_command_names_missing_options(
    photo_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _type(monkeypatch, "audit") == 2
    assert "--data DIR" in capsys.readouterr().err
    assert _type(monkeypatch, "audit", "--data", str(photo_folder), "--out", "x.csv") == 2
    assert ".html or .jsonl" in capsys.readouterr().err


def test_a_corpus_may_be_parquet_without_classes_but_not_empty(tmp_path: Path) -> None:
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq

    stream = io.BytesIO()
    Image.effect_noise((20, 20), 90).save(stream, "PNG")
    pq.write_table(pa.table({"image": [stream.getvalue()] * 2}), tmp_path / "some.parquet")
    for path in (tmp_path, tmp_path / "some.parquet"):
        corpus = load_generator_corpus(path, DataConfig())
        assert corpus.images.ids == ("some.parquet#0", "some.parquet#1")
        assert corpus.sketches_N.shape == (2,)
    (tmp_path / "empty").mkdir()
    for wrong in ("empty", "nowhere"):
        with pytest.raises(DataError):
            load_generator_corpus(tmp_path / wrong, DataConfig())


def test_one_class_or_a_test_split_alone_can_be_audited(photo_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(photo_folder / "test", tmp_path / "alone/test")
    alone = DataConfig(path=str(tmp_path / "alone"))
    train, _, corpus = audit_data(alone, corpus=photo_folder / "test").sets
    assert len(train.images) == 0
    assert corpus.reports["test"].ids == frozenset(corpus.images.ids)
    shutil.copytree(photo_folder / "train/ship", tmp_path / "one/ship")
    (train, _) = audit_data(DataConfig(path=str(tmp_path / "one"))).sets
    assert len(train.images) > 0
