"""A run whose language model answers in no usable way says so, wherever a reader looks."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from gendataagent import cli
from gendataagent.config import RunConfig
from tests.chat_server import Reply, serving

pytestmark = pytest.mark.integration


def test_rewrites_that_fail_reach_terminal_record_and_page(
    small_config: RunConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("openai")
    with serving(lambda question, _: Reply("I'm sorry, but I can't help with that.")) as server:
        config = replace(
            small_config,
            agent=replace(small_config.agent, rounds=1),
            training=replace(small_config.training, epochs=2),
            prompting=replace(
                small_config.prompting,
                rewriter="endpoint",
                endpoint_url=server.url,
                endpoint_model="tiny",
            ),
        )
        settings = tmp_path / "settings.toml"
        settings.write_text(config.to_toml(), encoding="utf-8")
        run = tmp_path / "run"
        monkeypatch.setattr(
            sys, "argv", ["gendataagent", "run", "--config", str(settings), "--out", str(run)]
        )
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert not end.value.code
        assert server.questions
    record = json.loads((run / "rounds" / "000" / "record.json").read_text(encoding="utf-8"))
    (note,) = [n for n in record["notes"] if "of the rewrites of this round were not used" in n]
    made = record["made"]
    assert f"{made} of {made} ({made} replaced by visible-attributes)" in note
    terminal = " ".join(capsys.readouterr().err.split())
    assert "More than a quarter of the rewrites of this round were not used" in terminal
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "More than a quarter of the rewrites of this round were not used" in page
