"""What the page says about kept and rejected images, and its choice of classes."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from gendataagent.core.files import write_json
from gendataagent.core.records import GuardRecord
from gendataagent.report import write_report
from gendataagent.report.review.query import Query
from gendataagent.report.review.serving import open_review
from gendataagent.report.sections.gallery import CLASSES_TO_CHOOSE

from .fixture_run import PLAIN_NAMES, build_run
from .test_page import checked


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_run(tmp_path_factory.mktemp("runs") / "demo")


def test_kept_and_made_of_each_class_are_those_of_the_pool(run: Path) -> None:
    text = checked(write_report(run)).text
    rows = [
        row
        for path in sorted(run.glob("pool/*/metadata.parquet"))
        for row in pq.read_table(path).to_pylist()
    ]
    for name in PLAIN_NAMES:
        of_class = [row for row in rows if row["class_name"] == name]
        kept = [row for row in of_class if row["kept"]]
        newest = [row["vog"] for row in kept if row["round"] == 2]
        cut_off = f"{min(newest):.3g}"[:6]
        assert f"{len(kept)} of {len(of_class)}, " in text
        assert f"cut-off {cut_off}" in text


def test_decisions_by_hand_are_one_line(run: Path, tmp_path: Path) -> None:
    decided = Path(shutil.copytree(run, tmp_path / "decided"))
    assert "By hand" not in write_report(decided).read_text(encoding="utf-8")
    with open_review(decided) as server:
        entries = server.candidates.page(Query(verdict="in"))["items"]
        query = Query(source="train-3", verdict="in")
        many = server.candidates.page(query)["droppable"]
        server.candidates.drop_matching(query, many)
        server.candidates.decide(
            server.candidates.page(Query(verdict="reason:vog"))["items"][0]["id"], "keep"
        )
        other = next(entry["id"] for entry in entries if "train-3" not in entry["source"])
        server.candidates.decide(other, "keep")  # as it was
    page = checked(write_report(decided)).text
    assert f"{many} dropped that the run had kept, 1 kept that it had dropped" in page
    assert "--only kept" in page


def test_the_gallery_marks_what_was_decided_by_hand(run: Path, tmp_path: Path) -> None:
    decided = Path(shutil.copytree(run, tmp_path / "decided"))
    assert "by hand</span>" not in write_report(decided).read_text(encoding="utf-8")
    with open_review(decided) as server:
        chosen = {
            "drop": server.candidates.page(Query(verdict="in"))["items"],
            "keep": server.candidates.page(Query(verdict="reason:vog"))["items"],
        }
        for decision, entries in chosen.items():
            for entry in entries:
                server.candidates.decide(entry["id"], decision)
    page = write_report(decided).read_text(encoding="utf-8")
    dropped = re.findall(
        r'<figure class="rejected"(?:(?!</figure>).)*<span class="badge kept">kept</span> '
        r'<span class="badge rejected">dropped by hand</span>',
        page,
        re.DOTALL,
    )
    kept = re.findall(
        r'<figure class="kept"(?:(?!</figure>).)*VoG filter(?:</bdi>)?</span> '
        r'<span class="badge kept">kept by hand</span>',
        page,
        re.DOTALL,
    )
    assert dropped
    assert kept
    assert page.count("by hand</span>") == len(dropped) + len(kept)


def test_a_classifier_that_the_guard_kept_is_not_called_the_agent_s(tmp_path: Path) -> None:
    run = build_run(tmp_path / "run", rounds=1)
    record = GuardRecord(
        chosen="baseline", agent_top1=0.5, agent_loss=1.2, baseline_top1=0.6, baseline_loss=1.0
    )
    write_json(run / "guard" / "outcome.json", record.to_json())
    page = checked(write_report(run)).text
    assert "Kept by the guard" in page
    assert "With the agent" not in page.partition("Training curves")[0]
    assert "lowest first" in page  # it is the baseline's classifier, so nothing has changed


def test_one_class_can_be_chosen_without_a_script(run: Path) -> None:
    page = write_report(run).read_text(encoding="utf-8")
    for label in range(len(PLAIN_NAMES)):
        assert f'id="only-{label}"' in page
        assert f"main:has(#only-{label}:checked) .of-class:not(.c{label})" in page


def test_with_very_many_classes_there_is_no_choice(tmp_path: Path) -> None:
    names = tuple(f"class {number}" for number in range(CLASSES_TO_CHOOSE + 1))
    run = build_run(tmp_path / "run", class_names=names, sources=len(names), rounds=1, rewrites=1,
                    baseline=False)  # fmt: skip
    assert 'name="only"' not in write_report(run).read_text(encoding="utf-8")


def test_classes_differ_beyond_chance_where_mcnemar_says_so(run: Path) -> None:
    page = checked(write_report(run)).text
    assert "95 % interval of the difference" in page
