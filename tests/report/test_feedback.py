"""The section on feedback: the numbers of its files, and what is left out without them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from gendataagent.report import write_report
from gendataagent.report.run_reader import read_run
from gendataagent.report.sections.feedback import PAIRS_SHOWN

from .fixture_run import NASTY_NAMES, build_run
from .test_page import checked


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_run(tmp_path_factory.mktemp("runs") / "guided", feedback=True, sealed=False)


@pytest.fixture
def copied(run_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run_folder, tmp_path / "run"))


def test_the_section_shows_the_numbers_of_its_files(run_folder: Path) -> None:
    text = checked(write_report(run_folder)).text
    record = json.loads((run_folder / "rounds/002/feedback.json").read_text())
    mean = {
        part: sum(record[part]["p_true"]) / len(record[part]["p_true"])
        for part in ("sources", "plain", "guided")
    }
    assert "Round 1 none – – – – – the classifier is not trained yet" in text
    assert (
        f"Round 3 entropy 0.0625 {mean['sources']:.2f} {mean['plain']:.2f} {mean['guided']:.2f} "
        "0.34 as hard as validation images"
    ) in text
    assert "Round 3 0.0625 0.35 79.0 % chosen" in text
    assert "71.2 % in round 2, 71.2 % in round 3" in text
    before, after = record["plain"]["p_true"][0], record["guided"]["p_true"][0]
    assert f"p = {before:.2f} → {after:.2f}, round 3" in text
    assert "Round 2 12 0.63 0.57 0.46 83.0 % 77.0 % 66.0 %" in text


def test_pairs_are_of_different_classes_first(run_folder: Path) -> None:
    page = write_report(run_folder).read_text()
    assert page.count('<div class="two">') == PAIRS_SHOWN


def test_a_run_without_feedback_has_no_section(tmp_path: Path) -> None:
    page = write_report(build_run(tmp_path / "run", rounds=1)).read_text()
    assert 'id="feedback"' not in page
    assert "Agreement" not in page


def test_missing_files_leave_out_their_part_only(copied: Path) -> None:
    (copied / "second_opinion.json").unlink()
    for number in (1, 2):
        shutil.rmtree(copied / f"rounds/00{number}/plain")
    text = checked(write_report(copied)).text
    assert "Round 3 entropy 0.0625" in text
    assert "Agreement" not in text
    assert "The same seed" not in text
    assert "is damaged" not in text


def test_damaged_files_are_named(copied: Path) -> None:
    (copied / "second_opinion.json").write_text('{"rounds": 3}')
    (copied / "rounds/001/feedback.json").write_text("{")
    (copied / "rounds/002/feedback.json").write_text('{"criterion": "loss", "scale": "much"}')
    text = checked(write_report(copied)).text
    assert "second_opinion.json: a row is not a SecondOpinion" in text
    assert "feedback.json: a row is not a FeedbackRecord" in text
    assert read_run(copied).rounds[1].feedback is None


def test_probes_that_are_not_known_by_id_have_images_but_no_p(copied: Path) -> None:
    for number in (1, 2):
        path = copied / f"rounds/00{number}/feedback.json"
        row = json.loads(path.read_text())
        for key in ("p_true", "entropy", "recognised", "labels"):
            row["plain"][key].pop()  # one image without feedback could not be used
        path.write_text(json.dumps(row))
    page = write_report(copied).read_text()
    assert page.count('<div class="two">') == PAIRS_SHOWN
    assert "p = 0." not in page.split('id="feedback"')[1].split("</section>")[0]


def test_markup_in_names_is_escaped(tmp_path: Path) -> None:
    folder = build_run(tmp_path / "run", class_names=NASTY_NAMES, feedback=True, sealed=False)
    path = folder / "rounds/001/feedback.json"
    row = json.loads(path.read_text())
    path.write_text(json.dumps({**row, "criterion": "<script>", "reason": "<script>"}))
    checked(write_report(folder))
