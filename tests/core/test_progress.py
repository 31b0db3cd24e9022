"""Time adds up over attempts, also over those that failed; silence is the default."""

from __future__ import annotations

import time

import pytest

from gendataagent.core.progress import SilentProgress, Stopwatch


def test_a_stopwatch_adds_to_earlier_attempts_without_changing_their_record() -> None:
    before = {"render": 100.0}
    watch = Stopwatch(before)
    with watch.measure("render"):
        time.sleep(0.01)
    with watch.measure("filter"):
        pass
    assert 100.01 <= watch.seconds["render"] < 101
    assert 0 <= watch.seconds["filter"] < 1
    assert before == {"render": 100.0}


def test_a_stopwatch_counts_time_that_ended_in_an_error() -> None:
    watch = Stopwatch()
    with pytest.raises(ZeroDivisionError), watch.measure("train"):
        time.sleep(0.01 + 1 // len(watch.seconds))
    assert 0 < watch.seconds["train"] < 1


def test_silent_progress_accepts_every_report(capsys: pytest.CaptureFixture[str]) -> None:
    progress = SilentProgress()
    with progress.stage("render", 3, "images", done=1) as outer, progress.stage("inner") as inner:
        outer.advance()
        inner.advance(0.5)
    progress.say("a line")
    assert capsys.readouterr() == ("", "")
