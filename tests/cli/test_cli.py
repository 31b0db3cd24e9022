"""The command line, run in this process."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import pytest

from gendataagent import cli
from gendataagent.config import RunConfig
from gendataagent.runs.results import read_result
from gendataagent.runs.run import run


def _type(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run `gendataagent ARGUMENTS` and return its exit code."""
    monkeypatch.setattr(sys, "argv", ["gendataagent", *arguments])
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    return int(exit_.value.code or 0)


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, photo_folder: Path, tiny_pipeline_folder: Path
) -> Path:
    """A finished run with a baseline beside it."""
    from dataclasses import replace

    from tests.small_world import settings_for

    config = settings_for(photo_folder, tiny_pipeline_folder)
    path = tmp_path_factory.mktemp("cli") / "run"
    run(replace(config, agent=replace(config.agent, baseline=True)), path)
    return path


@pytest.mark.integration
def test_run_prints_the_comparison_and_the_page(
    small_config: RunConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file, out = tmp_path / "small.toml", tmp_path / "run"
    file.write_text(small_config.to_toml())
    code = _type(
        monkeypatch, "run", "--config", str(file), "--out", str(out), "--epochs", "2",
        "--rounds", "1", "--baseline", "--seed", "3", "--set", "training.batch_size=4",
    )  # fmt: skip
    printed = capsys.readouterr()
    assert code == 0, printed.err
    assert "real images only" in printed.out
    assert "with the agent" in printed.out
    for row in ("top-1", "worst class", "worst-case disparity", "images made / kept", "time"):
        assert row in printed.out
    assert str(out / "report.html") in printed.out
    config = read_result(out).baseline
    assert config is not None
    written = RunConfig.from_toml(out / "config.toml")
    assert (written.training.epochs, written.agent.rounds, written.seed) == (2, 1, 3)
    assert written.training.batch_size == 4


@pytest.mark.integration
def test_the_baseline_differs_only_by_the_agent(finished: Path) -> None:
    result = read_result(finished)
    assert result.baseline is not None
    assert result.baseline.optimizer_steps == result.optimizer_steps
    assert result.baseline.images_made == 0
    assert result.images_made == 2 * 6 * 3
    own = RunConfig.from_toml(finished / "config.toml").to_dict()
    other = RunConfig.from_toml(finished / "baseline" / "config.toml").to_dict()
    own.pop("agent"), other.pop("agent")
    steps = "steps_as_with_agent"
    assert (own["training"].pop(steps), other["training"].pop(steps)) == (False, True)
    assert own == other


def test_all_wrong_settings_are_listed_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    code = _type(
        monkeypatch, "run", "--out", str(out), "--set", "training.epoch=3", "--set",
        "selection.by=foo", "--generator", str(tmp_path / "none"), "--epochs", "0",
    )  # fmt: skip
    error = capsys.readouterr().err
    assert code == 2
    assert "4 settings are wrong" in error
    for part in ("did you mean epochs?", "selection.by must be one of", "there is no folder",
                 "training.epochs must be at least 1"):  # fmt: skip
        assert part in error
    assert not out.exists()


def test_a_missing_image_folder_is_an_error_without_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("run", "--data", str(tmp_path / "photos"), "--out", str(tmp_path / "run"))
    code = _type(monkeypatch, *arguments)
    error = capsys.readouterr().err
    assert code == 1
    assert str(tmp_path / "photos") in error
    assert "Traceback" not in error
    assert _type(monkeypatch, *arguments) == 1  # the same again, not "already holds a run"
    assert str(tmp_path / "photos") in capsys.readouterr().err


def test_a_non_empty_out_folder_is_refused_and_unchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    assert _type(monkeypatch, "run", "--out", str(tmp_path)) == 1
    assert "not empty" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.integration
def test_evaluate_prints_the_test_result_and_measures_other_images(
    finished: Path,
    photo_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert _type(monkeypatch, "evaluate", str(finished)) == 0
    top1 = read_result(finished).evaluations["test"].top1
    assert f"{top1:.1%}" in capsys.readouterr().out
    assert _type(monkeypatch, "evaluate", str(finished), "--data", str(photo_folder)) == 0
    assert "48 images: top-1" in capsys.readouterr().out  # 3 classes x (8 + 4 + 4)


def test_report_refuses_a_folder_that_is_not_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _type(monkeypatch, "report", str(tmp_path)) == 1
    assert "not a run folder" in capsys.readouterr().err


def test_config_lists_every_setting_and_its_toml_reads_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from gendataagent.config.settings import iterate_settings

    assert _type(monkeypatch, "config") == 0
    table = capsys.readouterr().out
    assert all(row.key in table for row in iterate_settings(RunConfig()))
    assert _type(monkeypatch, "config", "--toml", "--set", "seed=5") == 0
    (tmp_path / "all.toml").write_text(capsys.readouterr().out)
    assert RunConfig.from_toml(tmp_path / "all.toml") == RunConfig.from_dict({"seed": 5})


def test_doctor_lists_what_it_checked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _type(monkeypatch, "doctor") == 0
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("Python", "torch", "memory", "disk", "tiny-sd"))


def test_a_strategy_overrides_the_preset_and_set_overrides_both(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    both = ("config", "--toml", "--preset", "demo", "--strategy", "gendataagent-plus")
    assert _type(monkeypatch, *both, "--set", "training.epochs=7") == 0
    shown = RunConfig.from_dict(tomllib.loads(capsys.readouterr().out))
    assert (shown.training.batchnorm_from_real, shown.filter.by) == (True, "none")
    assert (shown.agent.first_round_epoch, shown.selection.per_class) == (0, True)
    assert (shown.training.epochs, shown.training.batch_size) == (7, 64)  # --set; the preset

    assert _type(monkeypatch, "config", "--strategy", "gendataagent-pls") == 2
    assert "did you mean gendataagent-plus?" in " ".join(capsys.readouterr().err.split())
    assert _type(monkeypatch, *both, "--set", "prompting.rewriter=none") == 2
    assert "rewrites captions" in " ".join(capsys.readouterr().err.split())
    assert _type(monkeypatch, "run", "--resume", "somewhere", "--strategy", "margin") == 2
    assert "--strategy" in capsys.readouterr().err
