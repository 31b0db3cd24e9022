"""`gendataagent config`: all settings a line each, one setting, one section."""

from __future__ import annotations

import sys
import tomllib

import pytest

from gendataagent import cli
from gendataagent.config import RunConfig
from gendataagent.config.settings import iterate_settings


def _config(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run `gendataagent config ARGUMENTS`, its output not a terminal; return the exit code."""
    monkeypatch.setattr(sys, "argv", ["gendataagent", "config", *arguments])
    monkeypatch.setenv("COLUMNS", "40")
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    return int(exit_.value.code or 0)


def test_piped_settings_are_one_line_each_and_read_back_as_toml(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _config(monkeypatch, "--set", "training.epochs=70") == 0
    printed = capsys.readouterr().out
    rows = list(iterate_settings(RunConfig()))
    lines = printed.splitlines()
    assert [line.partition(" = ")[0] for line in lines] == [row.key for row in rows]
    assert all(row.setting.help in line for row, line in zip(rows, lines, strict=True))
    read = RunConfig.from_dict(tomllib.loads(printed))
    assert read == RunConfig.from_dict({"training": {"epochs": 70}})


def test_one_setting_is_printed_with_its_facts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _config(monkeypatch, "data.max_megapixels", "--set", "data.max_megapixels=9") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:4] == [
        "data.max_megapixels = 9.0",
        "  default  178.0",
        "  unit     megapixel",
        "  range    above 0, at most 178",
    ]
    assert "quarantined" in lines[4]
    assert _config(monkeypatch, "data.near_duplicates") == 0
    assert "  range    one of remove, report, off\n" in capsys.readouterr().out


def test_a_section_is_printed_without_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _config(monkeypatch, "agent", "--preset", "paper-pets") == 0
    printed = capsys.readouterr().out
    rows = iterate_settings(RunConfig())
    shown = {row.key for row in rows if f"{row.key} = " in printed}
    assert shown == {
        row.key for row in iterate_settings(RunConfig()) if row.key.startswith("agent.")
    }
    assert "agent.rounds = 20" in printed
    assert "source   paper, 20 [S]" in printed


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("training.epoch", "did you mean training.epochs?"),
        ("epochs", "did you mean training.epochs or adaptation.epochs?"),
        ("trainin", "did you mean training?"),
        ("qqqqqq", "sections: data, classifier, training"),
    ],
)
def test_an_unknown_key_is_answered_with_the_nearest(
    key: str, hint: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _config(monkeypatch, key) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert f"there is no setting or section '{key}'" in error
    assert hint in error
