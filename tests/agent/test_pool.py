"""The pool keeps every image with its record, readable by Hugging Face datasets."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from gendataagent.agent.columns import pool_schema
from gendataagent.agent.pool import Pool
from gendataagent.config import RunConfig
from gendataagent.config.run_config_file import create_run_folder
from gendataagent.core.errors import RunFolderError
from gendataagent.core.records import Candidate, RenderedCandidate, candidate_id
from gendataagent.core.rows import fit
from gendataagent.core.run_folder import RunFolder

CLASSES = ("Kätzchen", "dog")


def candidate(source: str, number: int = 0, **changes: object) -> Candidate:
    made = Candidate(
        id=candidate_id(number, source, 0), round=number, source_id=source, label=1,
        class_name="dog", variant=0, seed=2**63 - 1, strength=0.75, guidance_scale=7.5,
        num_inference_steps=30, negative_prompt="", caption='with "quotes", brünett\n',
    )  # fmt: skip
    return replace(made, **changes)  # type: ignore[arg-type]


def image(red: int) -> Image.Image:
    return Image.new("RGB", (6, 5), (red, 20, 30))


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    # "test" and "validation" in a path are what datasets takes for the name of a split
    return create_run_folder(tmp_path / "validation_test_run", RunConfig())


@pytest.fixture
def pool(folder: RunFolder) -> Pool:
    return Pool(folder, CLASSES)


def fill_round(pool: Pool, number: int) -> list[Candidate]:
    """Make four candidates: one kept, two refused, one without an image."""
    made = [candidate(source, number) for source in ("a/ü 1.jpg", "b", "c", "d")]
    made[2] = replace(made[2], rejected_by="black-image")
    made[3] = replace(made[3], rejected_by="no-image")
    images = [image(number * 10 + i) for i in range(3)]
    rendered = [RenderedCandidate(c, i) for c, i in zip(made, [*images, None], strict=True)]
    pool.add_batch(number, rendered[:2], 1.5)
    pool.add_batch(number, rendered[2:], 2.0)
    made[1] = replace(made[1], rejected_by="vog", vog=0.25)
    pool.close_round(number, made)
    return made


def test_the_kept_set_loads_with_one_line_of_datasets(
    pool: Pool, folder: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    made = [*fill_round(pool, 0), *fill_round(pool, 1)]
    refused = [candidate(source, 2, rejected_by="no-image") for source in "ab"]
    pool.add_batch(2, [RenderedCandidate(c, None) for c in refused], 1.0)
    pool.close_round(2, refused)  # a round of which no image came
    pool.add_batch(3, [RenderedCandidate(candidate("a", 3), image(99))], 1.0)  # not closed yet

    data_dir = str(folder.path / "pool")
    everything = datasets.load_dataset("imagefolder", data_dir=data_dir, split="train")
    kept = everything.filter(bool, input_columns="kept")
    assert kept.features["label"].names == list(CLASSES)

    assert sorted(row["id"] for row in everything) == sorted(
        c.id for c in made if c.rejected_by != "no-image"
    )
    assert {row["id"]: row["image"].getpixel((0, 0))[0] for row in kept} == {
        made[0].id: 0,
        made[4].id: 10,
    }
    for row in kept:
        assert fit(Candidate, row, ignore_unknown=True) in made


def test_the_table_holds_every_field_of_a_candidate(pool: Pool, folder: RunFolder) -> None:
    schema = pool_schema(CLASSES)
    assert set(schema.names) == {*candidate("a").to_json(), "file_name", "kept"}
    fill_round(pool, 0)
    table = pq.read_table(folder.pool(0) / "metadata.parquet")
    assert table.schema.equals(schema, check_metadata=True)
    assert table.column("kept").to_pylist() == [True, False, False]


def test_judged_candidates_are_read_back(pool: Pool) -> None:
    made = fill_round(pool, 0)
    assert list(pool.candidates(0)) == made


def test_kept_images_are_those_of_the_given_rounds(pool: Pool) -> None:
    first, second = fill_round(pool, 0), fill_round(pool, 1)
    kept = pool.kept([1, 0])
    assert kept.ids == (second[0].id, first[0].id)
    assert kept.labels == (1, 1)
    assert kept.class_names == CLASSES
    assert len(kept) == 2
    assert kept.image(0).getpixel((0, 0)) == (10, 20, 30)
    assert (kept.image(1).size, kept.image(1).mode) == ((6, 5), "RGB")
    assert len(pool.kept([])) == 0


def test_rendered_candidates_are_listed_with_their_seconds(pool: Pool) -> None:
    assert pool.rendered(0) == ({}, 0.0)
    made = [candidate("a"), candidate("b", rejected_by="no-image")]
    pool.add_batch(0, [RenderedCandidate(made[0], image(1))], 1.5)
    pool.add_batch(0, [RenderedCandidate(made[1], None)], 2.0)
    assert pool.rendered(0) == ({made[0].id: None, made[1].id: "no-image"}, 3.5)


def test_a_torn_line_is_ignored_and_later_lines_are_read(pool: Pool, folder: RunFolder) -> None:
    a, b, c = (candidate(source) for source in "abc")
    pool.add_batch(0, [RenderedCandidate(a, image(1))], 1.0)
    pool.add_batch(0, [RenderedCandidate(b, image(2))], 1.0)
    path = folder.round(0) / "rendered.jsonl"
    for cut in (1, 40, 100):  # inside the second line, wherever the power went
        content = path.read_bytes()
        path.write_bytes(content[:-cut])
        expected = {a.id: None, b.id: None} if cut == 1 else {a.id: None}
        assert pool.rendered(0)[0] == expected
        path.write_bytes(content)
    path.write_bytes(path.read_bytes()[:-40])
    pool.add_batch(0, [RenderedCandidate(c, image(3))], 1.0)
    assert pool.rendered(0) == ({a.id: None, c.id: None}, 2.0)
    path.write_bytes(path.read_bytes() + b"\0" * 64)  # what some file systems leave behind
    assert set(pool.rendered(0)[0]) == {a.id, c.id}


@pytest.mark.parametrize("damage", ["gone", "empty", "cut", "wrong"])
def test_a_lost_or_broken_image_is_named(damage: str, pool: Pool, folder: RunFolder) -> None:
    made = fill_round(pool, 0)
    path = pool.image_path(made[0])
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes({"empty": b"", "cut": content[:-30], "wrong": content[:50] + b"x" * 40}
                         [damage])  # fmt: skip
    named = re.escape(f"the synthetic image {path} cannot be read")
    with pytest.raises(RunFolderError, match=named):
        pool.image(made[0])
    with pytest.raises(RunFolderError, match=named):
        pool.kept([0]).image(0)


def test_an_open_round_is_an_error_that_names_the_file(pool: Pool) -> None:
    with pytest.raises(RunFolderError, match=r"judged\.parquet"):
        pool.candidates(5)
