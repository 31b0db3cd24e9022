"""A run measures how its synthetic images lie among its validation images, stopped or not."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from gendataagent.core.coverage import Coverage
from gendataagent.core.errors import RunFolderError
from gendataagent.core.rows import read_mapping
from gendataagent.core.run_folder import RunFolder
from gendataagent.experiments.measures import row_of
from gendataagent.report import write_report
from gendataagent.runs import conclusion
from gendataagent.runs.run import resume, run
from gendataagent.runs.verify import verify
from tests.small_world import CLASSES, settings_for, write_photos

pytestmark = pytest.mark.integration


def test_the_last_images_are_measured_and_shown(
    tmp_path: Path, tiny_pipeline_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = write_photos(tmp_path / "photos", validation=7)
    settings = settings_for(photos, tiny_pipeline_folder)
    settings = replace(
        settings,
        agent=replace(settings.agent, rounds=1, guard=False),
        selection=replace(settings.selection, share=1.0, per_class=True),
        filter=replace(settings.filter, by="none"),
        prompting=replace(settings.prompting, rewriter="none", rewrites=1),
        training=replace(settings.training, epochs=2),
    )
    folder = RunFolder(tmp_path / "run")
    measured: list[int] = []

    def stop(*args: object, **options: object) -> None:
        measured.append(1)
        raise KeyboardInterrupt

    with monkeypatch.context() as at_the_end:
        at_the_end.setattr(conclusion, "coverage_by_class", stop)
        with pytest.raises(KeyboardInterrupt):
            run(settings, folder.path)
    assert measured
    assert not folder.is_done
    resume(folder.path)
    of_class = read_mapping(folder.coverage_file, Coverage)
    assert set(of_class) == {*CLASSES.values()}
    assert {one.references for one in of_class.values()} == {7}
    row = row_of(folder.path, arm="a", seed=7)
    mean = sum(one.coverage for one in of_class.values()) / 3
    assert row["coverage"] == pytest.approx(mean)
    page = write_report(folder.path).read_text(encoding="utf-8")
    assert "Synthetic among real images" in page

    whole = tmp_path / "whole"
    shutil.copy(folder.coverage_file, tmp_path / "stopped.json")
    run(settings, whole)
    assert (whole / "coverage.json").read_bytes() == (tmp_path / "stopped.json").read_bytes()
    for damage in (lambda path: path.write_bytes(b"{}"), Path.unlink):
        damage(whole / "coverage.json")
        assert [d.path.name for part in verify(whole) for d in part.damaged] == ["coverage.json"]
        with pytest.raises(RunFolderError, match=r"coverage\.json (has changed|is missing)"):
            row_of(whole, arm="a", seed=7)
