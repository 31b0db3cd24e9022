"""Copies of test images that a run cured or got wrong, and what the page says of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from gendataagent.core.files import read_jsonl, write_jsonl
from gendataagent.core.run_folder import RunFolder
from gendataagent.data import LabelledImages
from gendataagent.report import write_report
from gendataagent.runs.mistakes import EACH, SIDE_PX, write_mistakes
from tests.report.fixture_run import build_run
from tests.report.test_page import checked

NAMES = ("cat", "dog")


def run_of(path: Path, after: list[int], before: list[int] | None) -> list[dict[str, object]]:
    """Write predictions of images of classes 0, 1, 0, 1, ..., and return what is listed."""
    labels = [number % 2 for number in range(len(after))]
    test = LabelledImages.from_images(
        [Image.new("RGB", (300, 200), (number, 0, 0)) for number in range(len(after))],
        labels, class_names=NAMES, ids=[f"t{number}" for number in range(len(after))],
    )  # fmt: skip
    folder = RunFolder(path)
    for where, said in ((path, after), (folder.baseline, before)):
        if said is not None:
            rows = [
                {"id": f"t{number}", "label": label, "predicted": predicted}
                for number, (label, predicted) in enumerate(zip(labels, said, strict=True))
            ]
            where.mkdir(parents=True)
            write_jsonl(where / "test_predictions.jsonl", rows)
    write_mistakes(folder, test)
    listed = folder.mistakes / "mistakes.jsonl"
    return read_jsonl(listed) if listed.exists() else []


def test_what_only_one_of_two_classifiers_gets_right_is_listed(tmp_path: Path) -> None:
    listed = run_of(tmp_path / "run", after=[0, 1, 1, 1, 1, 0], before=[1, 1, 0, 0, 1, 0])
    assert {(row["id"], row["predicted"], row["without"]) for row in listed} == {
        ("t0", 0, 1), ("t3", 1, 0),  # cured
        ("t2", 1, 0),  # new
    }  # fmt: skip
    with Image.open(tmp_path / "run" / "mistakes" / str(listed[0]["file"])) as image:
        assert max(image.size) == SIDE_PX
        assert image.getpixel((0, 0)) == (int(str(listed[0]["id"])[1:]), 0, 0)


def test_without_a_baseline_mistakes_of_each_class_in_turn_are_listed(tmp_path: Path) -> None:
    listed = run_of(tmp_path / "run", after=[1, 0] * 20, before=None)
    assert len(listed) == EACH
    assert [row["label"] for row in listed] == [0, 1] * (EACH // 2)
    assert {row["without"] for row in listed} == {None}
    assert listed == run_of(tmp_path / "again", after=[1, 0] * 20, before=None)


def test_nothing_is_written_where_both_agree(tmp_path: Path) -> None:
    assert run_of(tmp_path / "run", after=[0, 0], before=[0, 0]) == []
    assert not (tmp_path / "run" / "mistakes").exists()


@pytest.mark.parametrize("baseline", [True, False])
def test_the_page_counts_and_shows_them(tmp_path: Path, baseline: bool) -> None:
    run = build_run(tmp_path / "run", baseline=baseline)
    page = checked(write_report(run))
    listed = read_jsonl(run / "mistakes" / "mistakes.jsonl")
    shown = [a for a in page.attributes if a[0] == "a" and a[2].startswith("mistakes/")]
    assert len(shown) == len(listed) > 2
    right = {row["id"]: row["label"] == row["predicted"]
             for row in read_jsonl(run / "test_predictions.jsonl")}  # fmt: skip
    if baseline:
        without = {row["id"]: row["label"] == row["predicted"]
                   for row in read_jsonl(run / "baseline" / "test_predictions.jsonl")}  # fmt: skip
        cured = sum(right[id_] and not without[id_] for id_ in right)
        worse = sum(without[id_] and not right[id_] for id_ in right)
        assert f"Cured, {cured} images" in page.text
        assert f"New mistakes, {worse} images" in page.text
    else:
        assert f"Mistakes, {sum(not one for one in right.values())} images" in page.text
    (run / "mistakes" / str(listed[0]["file"])).unlink()
    (run / "mistakes" / str(listed[1]["file"])).write_bytes(b"no image")
    checked(write_report(run, on_problem=lambda _: None))
