"""The report compared with the files of the run."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.parse
from html.parser import HTMLParser
from pathlib import Path

import pytest

from gendataagent.core.errors import RunFolderError, StorageError
from gendataagent.report import write_report
from gendataagent.report.run_reader import read_run

from .fixture_run import NASTY, NASTY_NAMES, build_run

VOID = {"meta", "link", "img", "rect", "line", "circle", "polyline", "br", "input"}
ALLOWED_SCHEMES = ("#", "data:")


class _Checker(HTMLParser):
    """Collects tags, attributes and text, and checks that every element is closed in order."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, key, value or "") for key, value in attrs]
        self.ids += [value or "" for key, value in attrs if key == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words).replace("\u00a0", " "))


def checked(page: Path) -> _Checker:
    """Parse a page and check the properties of every page."""
    checker = _Checker()
    checker.feed(page.read_text(encoding="utf-8"))
    assert checker.open == []
    assert len(checker.ids) == len(set(checker.ids))
    assert "script" not in checker.tags
    assert not [a for a in checker.attributes if a[1].startswith("on")]
    links = [value for _, key, value in checker.attributes if key in ("src", "href", "srcset")]
    files = [link for link in links if not link.startswith(ALLOWED_SCHEMES)]
    assert all((page.parent / urllib.parse.unquote(file)).is_file() for file in files)
    assert not any(".." in file for file in files)
    anchors = {link[1:] for link in links if link.startswith("#")}
    assert anchors <= set(checker.ids)
    images = checker.tags.count("img")
    assert len([a for a in checker.attributes if a[:2] == ("img", "alt") and a[2]]) == images
    return checker


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_run(
        tmp_path_factory.mktemp("runs") / "demo", quarantined=[("cat/photo 7.jpg", "truncated")]
    )


def test_numbers_on_the_page_are_those_in_the_files(run_folder: Path) -> None:
    text = checked(write_report(run_folder)).text
    ours = json.loads((run_folder / "evaluation.json").read_text())["test"]
    theirs = json.loads((run_folder / "baseline/evaluation.json").read_text())["test"]
    records = [json.loads(p.read_text()) for p in run_folder.glob("rounds/*/record.json")]

    assert f"{100 * ours['top1']:.1f} % with the agent" in text
    assert f"{100 * theirs['top1']:.1f} % real only" in text
    difference = f"{100 * (ours['top1'] - theirs['top1']):+.1f}".replace("-", "\u2212")
    assert f"{difference} points" in text
    for evaluation in (ours, theirs):
        assert f"{evaluation['worst_case_disparity']:.3f}" in text
        assert (
            f"{100 * evaluation['worst_class_accuracy']:.1f} % {evaluation['worst_class']}" in text
        )
    for class_name, accuracy in ours["per_class"].items():
        before = theirs["per_class"][class_name]
        assert f"{class_name} {100 * before:.1f} % → {100 * accuracy:.1f} %" in text
    made, kept = (sum(r[key] for r in records) for key in ("made", "kept"))
    assert f"Images generated / kept – {made} / {kept}" in text
    assert f"Optimiser steps {20 * 40} {20 * 40} 0" in text
    for record in records:
        assert (
            f"Round {record['round'] + 1} after epoch {record['epoch']}: {record['selected']} "
            f"selected, {record['made']} generated, {record['kept']} kept"
        ) in text
    assert "The bundled generator is for trying out" in text
    assert "cat/photo 7.jpg truncated" in text
    assert "training.epochs 20 200" in text


def test_time_is_that_of_the_stages(run_folder: Path) -> None:
    seconds = read_run(run_folder).seconds
    assert seconds == pytest.approx(
        {"train": 96.5, "select": 2.4, "caption": 0.6, "rewrite": 0.3, "render": 94.5,
         "filter": 7.2, "evaluate": 4.25}
    )  # fmt: skip
    assert list(seconds)[:2] == ["train", "select"]


def test_kept_and_rejected_images_are_labelled(run_folder: Path) -> None:
    text = checked(write_report(run_folder)).text
    last = read_run(run_folder).rounds[-1]
    by_vog = sorted((c for c in last.candidates if c.vog is not None), key=lambda c: c.vog or 0)
    kept = [c for c in by_vog if c.kept][-1]
    rejected = next(c for c in by_vog if not c.kept)
    assert rejected.rejected_by == "vog"
    assert f"kept VoG {kept.vog:#.3g}" in text
    assert f"dropped by the VoG filter VoG {rejected.vog:#.3g}" in text


def test_markup_in_names_is_escaped(tmp_path: Path) -> None:
    folder = build_run(
        tmp_path / "<b>odd & 'run'",
        sealed=False,
        class_names=NASTY_NAMES,
        quarantined=[(f"{NASTY}.jpg", NASTY), ("not utf-8 \\udcff.jpg", "\x00 in it")],
        notes=[NASTY],
    )
    timing = {"train": 3.0, NASTY: 1.0}
    (folder / "timing.json").write_text(json.dumps(timing))
    checker = checked(write_report(folder))
    assert NASTY in "".join(checker.words)
    assert "\u202e" not in checker.text


def test_lone_surrogates_in_file_names_do_not_stop_the_page(tmp_path: Path) -> None:
    folder = build_run(tmp_path / "run", sealed=False, rounds=1, baseline=False)
    (folder / "data/quarantine.jsonl").write_text('{"name": "a\\udcff.jpg", "reason": "odd"}\n')
    assert "a\ufffd.jpg" in checked(write_report(folder)).text


def test_the_page_forbids_every_request(run_folder: Path) -> None:
    checker = checked(write_report(run_folder))
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert ("meta", "content", policy) in checker.attributes
    style = "".join(checker.words)
    assert "@import" not in style
    assert "url(" not in style


@pytest.mark.integration
@pytest.mark.parametrize("side_px", [32, pytest.param(256, marks=pytest.mark.slow)])
def test_many_images_stay_within_the_size(tmp_path: Path, side_px: int) -> None:
    many = {32: (20, 20), 256: (12, 6)}
    rounds, sources = many[side_px]
    folder = build_run(
        tmp_path / "run", rounds=rounds, epochs=200, sources=sources, side_px=side_px
    )
    page = write_report(folder)
    assert 300_000 < page.stat().st_size < 3_000_000
    text = checked(page).text
    assert "omitted" not in text  # the number of images is planned, not cut off


def test_an_unfinished_run_is_marked_and_shows_what_exists(tmp_path: Path) -> None:
    folder = build_run(tmp_path / "run", finished=False)
    text = checked(write_report(folder)).text
    assert "This run is not finished." in text
    assert "Round 4 was started and is not shown." in text
    assert "10 of 20 epochs trained" in text
    assert "validation accuracy so far" in text
    assert "--resume" in text
    assert "Round 3 after epoch" in text
    assert "With the agent Change" not in text  # changes need two finished runs


def test_run_without_agent_or_baseline(tmp_path: Path) -> None:
    text = checked(write_report(build_run(tmp_path / "run", agent=False))).text
    assert "The agent was off" in text
    assert "top-1 on real images only" in text
    assert "with the agent" not in text.lower()


def test_run_with_agent_but_without_baseline(tmp_path: Path) -> None:
    text = checked(write_report(build_run(tmp_path / "run", baseline=False))).text
    assert "top-1 with the agent" in text
    assert "lowest first" in text


def test_a_run_without_finished_rounds(tmp_path: Path) -> None:
    text = checked(write_report(build_run(tmp_path / "run", rounds=0))).text
    assert "training used no synthetic images" in text
    assert "Hard images" not in text


def test_only_config_and_manifest_are_needed(tmp_path: Path) -> None:
    full = build_run(tmp_path / "full", rounds=1, baseline=False)
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.toml", "manifest.json"):
        (bare / name).write_bytes((full / name).read_bytes())
    text = checked(write_report(bare)).text
    assert "No accuracy measured yet" in text
    assert "0 of 20 epochs trained" in text


def test_missing_or_broken_files_are_named_and_skipped(tmp_path: Path) -> None:
    folder = build_run(tmp_path / "run", sealed=False, rounds=2)
    with (folder / "metrics.jsonl").open("a") as stream:
        stream.write('{"epoch": 21, "lo')  # cut off by a crash
    (folder / "pool/000/metadata.parquet").write_bytes(b"not parquet")
    (folder / "evaluation.json").write_text("{")
    (folder / "baseline/manifest.json").unlink()
    for image in (folder / "pool/001").glob("*.png"):
        image.write_bytes(b"not an image")
    text = checked(write_report(folder)).text
    assert "metrics.jsonl: skipped 1 line(s) that are not JSON" in text
    assert "000/metadata.parquet is not as gendataagent writes it" in text
    assert "evaluation.json" in text
    assert "the baseline was skipped" in text
    assert "no image" in text
    assert "of 2 rounds, in 20 of 20 epochs" in text


def test_changed_files_are_named_left_out_and_said(tmp_path: Path) -> None:
    """One digit of a figure, one image: not shown as if it were what was written."""
    folder = build_run(tmp_path / "run", rounds=2)
    rounds = ("rounds/000/record.json", "rounds/001/record.json")
    for name in (*rounds, "baseline/evaluation.json", "metrics.jsonl"):
        path = folder / name
        path.write_text(path.read_text().replace("1", "2"))
    (folder / "data/splits.jsonl").unlink()
    said: list[str] = []
    page = write_report(folder, on_problem=said.append)
    checker = checked(page)
    for name in (
        "rounds/000/record.json has changed",
        "baseline/evaluation.json has changed",
        "metrics.jsonl has changed",
        "data/splits.jsonl is missing",
    ):
        assert any(name in sentence for sentence in said), name
        assert name in checker.text
    assert "of this run are damaged" in checker.text
    assert "gendataagent verify" in checker.text
    assert "training used no synthetic images" not in checker.text


def test_changed_images_are_not_shown(tmp_path: Path) -> None:
    folder = build_run(tmp_path / "run", rounds=2)
    other = next((folder / "pool/000").glob("*.png")).read_bytes()
    for image in (folder / "pool/001").glob("*.png"):
        image.write_bytes(other)
    said: list[str] = []
    assert "damaged</span>" in write_report(folder, on_problem=said.append).read_text()
    assert sum("pool/001/" in sentence for sentence in said) > 1


def test_a_changed_setting_is_named(tmp_path: Path) -> None:
    folder = build_run(tmp_path / "run", rounds=1, baseline=False)
    text = (folder / "config.toml").read_text()
    (folder / "config.toml").write_text(text.replace("rewrites = 5", "rewrites = 6"))
    assert "config.toml has changed since it was written" in checked(write_report(folder)).text


def test_the_last_row_of_an_epoch_counts(tmp_path: Path) -> None:
    folder = build_run(tmp_path / "run", sealed=False, rounds=1, baseline=False)
    rows = (folder / "metrics.jsonl").read_text().splitlines()
    again = {**json.loads(rows[4]), "loss": 9.75}
    (folder / "metrics.jsonl").write_text("\n".join([*rows, json.dumps(again)]))
    metrics = read_run(folder).metrics
    assert [row.epoch for row in metrics] == list(range(1, 21))
    assert metrics[4].loss == 9.75


def test_unknown_settings_are_shown(tmp_path: Path) -> None:
    folder = build_run(tmp_path / "run", rounds=1, baseline=False)
    with (folder / "config.toml").open("a") as stream:
        stream.write("\n[future]\nflux = 3\n")
    assert "future.flux 3 unknown to this version" in checked(write_report(folder)).text


def test_a_folder_that_is_not_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"not a run folder: it has no config\.toml"):
        write_report(tmp_path)


def test_the_page_can_be_written_elsewhere_and_is_never_partial(tmp_path: Path) -> None:
    folder = build_run(tmp_path / "run", rounds=1, baseline=False)
    assert write_report(folder, tmp_path / "a/b.html") == tmp_path / "a/b.html"
    assert not (folder / "report.html").exists()
    (tmp_path / "file").touch()
    with pytest.raises(StorageError):
        write_report(folder, tmp_path / "file/report.html")


def test_one_class(tmp_path: Path) -> None:
    checked(write_report(build_run(tmp_path / "run", class_names=["only"], rounds=1)))


def test_no_heavy_library_is_imported(run_folder: Path) -> None:
    code = (
        "import sys, pathlib; from gendataagent.report import write_report; "
        "write_report(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])); "
        "print([m for m in ('torch', 'diffusers', 'transformers', 'datasets', 'numpy.testing') "
        "if m in sys.modules])"
    )
    out = run_folder.parent / "elsewhere.html"
    result = subprocess.run(
        [sys.executable, "-c", code, str(run_folder), str(out)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert result.stdout.strip() == "[]"


def test_unequal_runs_get_a_caveat(tmp_path: Path) -> None:
    folder = build_run(tmp_path / "run", sealed=False, rounds=1)
    before = checked(write_report(folder)).text
    assert "With the agent Change" in before
    assert not [w for w in ("optimiser steps,", "different data", "differ in") if w in before]
    config = folder / "baseline/config.toml"
    text = config.read_text()
    assert "batch_size = 128" in text
    config.write_text(text.replace("batch_size = 128", "batch_size = 64"))
    with (folder / "baseline/metrics.jsonl").open("a") as stream:
        row = (folder / "metrics.jsonl").read_text().splitlines()[-1]
        stream.write(json.dumps({**json.loads(row), "optimizer_steps": 45}) + "\n")
    manifest = json.loads((folder / "baseline/manifest.json").read_text())
    (folder / "baseline/manifest.json").write_text(
        json.dumps({**manifest, "data_fingerprint": "other"})
    )
    page = checked(write_report(folder)).text
    assert "different numbers of optimiser steps, 805 and 800" in page
    assert "trained on different data" in page
    assert "Besides the agent, the two runs differ in training.batch_size ." in page
