"""Progress on a terminal and in a log file."""

from __future__ import annotations

import ast
import io
import time
from pathlib import Path

import pytest
from rich.table import Table
from rich.text import Text

from gendataagent.cli import console as console_module
from gendataagent.cli.console import ConsoleProgress, SafeConsole, say, show, write
from gendataagent.core.progress import Foretelling
from gendataagent.core.text import remove_control_characters


def progress_on(*, terminal: bool) -> tuple[ConsoleProgress, io.StringIO]:
    stream = io.StringIO()
    console = SafeConsole(file=stream, force_terminal=terminal, width=120, color_system=None)
    return ConsoleProgress(console), stream


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that the test advances."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_everything_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    ConsoleProgress().say("a note")
    assert capsys.readouterr() == ("", "a note\n")


@pytest.mark.parametrize("columns", ["0", "1", "20"])
def test_in_few_columns_no_cell_and_no_line_is_left_out(
    columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    table = Table("file", "class", "probability", box=None)
    table.add_row("a.png", "cat", "97.1%")
    show(table)
    progress = ConsoleProgress(SafeConsole(force_terminal=True, color_system=None))
    progress.say("a note")
    with progress.stage("render", 10, "images") as stage:
        stage.advance()
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("file", "a.png", "cat", "97.1%", "a note"))
    assert "\x1b" not in shown  # bars that a terminal breaks would be drawn one below the other


@pytest.mark.parametrize("terminal", [True, False])
def test_square_brackets_in_names_are_printed(terminal: bool) -> None:
    progress, stream = progress_on(terminal=terminal)
    progress.say("cannot read photos/[red] cat.jpg")
    assert "photos/[red] cat.jpg" in stream.getvalue()


def test_a_log_has_a_line_every_15_seconds_with_rate_and_time_left(clock: list[float]) -> None:
    progress, stream = progress_on(terminal=False)
    with progress.stage("render", 100, "images", done=40) as stage:
        clock[0] += 10
        stage.advance(10)  # too early for a line
        clock[0] += 10
        stage.advance(10)
        clock[0] += 14
        stage.advance(1)
        clock[0] += 2
        stage.advance(1)
    assert stream.getvalue().splitlines() == [
        "render: 60/100 images, 1.0/s, 40 s left",
        "render: 62/100 images, 1.6 s each, 62 s left",
    ]


def test_a_log_line_without_a_total_has_no_time_left(clock: list[float]) -> None:
    progress, stream = progress_on(terminal=False)
    with progress.stage("read", None, "images") as stage:
        clock[0] += 20
        stage.advance(40)
    assert stream.getvalue() == "read: 40 images, 2.0/s\n"


def test_a_terminal_shows_done_and_total() -> None:
    progress, stream = progress_on(terminal=True)
    with progress.stage("train", 3, "epochs", done=1) as outer:
        outer.advance(0.5)
        with progress.stage("render", 8, "images") as inner:
            inner.advance(5)
            progress.say("a line that stays")
            assert progress._live is not None
            progress._live.refresh()
        progress._live.refresh()
    shown = stream.getvalue()
    assert "5/8 images" in shown
    assert "2/3 epochs" in shown
    assert "a line that stays" in shown
    assert progress._live is None


def test_a_terminal_shows_no_unknown_total() -> None:
    progress, stream = progress_on(terminal=True)
    with progress.stage("read", None, "images") as stage:
        stage.advance(7)
        assert progress._live is not None
        progress._live.refresh()
    assert "7 images" in stream.getvalue()
    assert "None" not in stream.getvalue()


def test_an_error_inside_a_stage_closes_the_display() -> None:
    progress, _ = progress_on(terminal=True)

    def fail() -> None:
        with progress.stage("outer"), progress.stage("inner"):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert progress._live is None
    with progress.stage("again", 1):
        pass


HOSTILE = (
    "pawn [/w]",
    "king [red]",
    "[link=http://x]q[/]",
    ":smile:",
    "a\x1b]0;title\x07b",
    "\x1b[2J",
)


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("terminal", [True, False])
def test_names_of_other_people_are_printed_and_never_obeyed(name: str, terminal: bool) -> None:
    stream = io.StringIO()
    console = SafeConsole(
        file=stream,
        force_terminal=terminal,
        width=120,
        color_system="standard" if terminal else None,
    )
    table = Table(name, title=name)
    table.add_row(name)
    for what in (name, table, Text(name, style="red")):
        console.print(what)
    shown = remove_control_characters(stream.getvalue())
    assert "\x1b]" not in stream.getvalue()
    assert "\x1b[2J" not in stream.getvalue()
    assert "\x07" not in stream.getvalue()
    assert shown.count(remove_control_characters(name)) == (
        5 if name != "\x1b[2J" else len(shown) + 1
    )


@pytest.mark.parametrize("name", HOSTILE)
def test_stages_are_named_after_anything(name: str) -> None:
    progress, stream = progress_on(terminal=True)
    with progress.stage(name, 10, name) as stage:
        stage.advance(1)
    assert remove_control_characters(name).strip() in remove_control_characters(stream.getvalue())


def test_text_for_programs_keeps_its_spaces_and_escapes_control_characters(
    capsys: pytest.CaptureFixture[str],
) -> None:
    write("a  [red]\x9b2J\t" + "x" * 200)
    assert capsys.readouterr().out == "a  [red]\\u009b2J\t" + "x" * 200 + "\n"


def test_no_other_module_of_the_command_line_prints() -> None:
    for path in Path(console_module.__file__).parent.glob("*.py"):
        if path.name in ("console.py", "streams.py"):
            continue
        calls = [
            node.func
            for node in ast.walk(ast.parse(path.read_text("utf-8")))
            if isinstance(node, ast.Call)
        ]
        names = {call.id for call in calls if isinstance(call, ast.Name)}
        assert not names & {"print", "Console"}, path.name


KEY = "sk-0123456789abcdefghij"


def test_secrets_are_hidden_even_where_a_line_is_wrapped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    table = Table()
    table.add_column("what", overflow="fold")
    table.add_row(f"the server says {KEY}")
    table.add_row(Text(f"it says {KEY} again"))
    SafeConsole(width=24).print(table)
    say(f"error: {KEY[:5]}\x1b[1m{KEY[5:]}", to_error=True)
    ConsoleProgress(SafeConsole(stderr=True)).say(f"moved to http://h/?k={KEY}")
    write(f'{{"said": "{KEY.upper()}"}}')
    out, err = capsys.readouterr()
    assert "6789" not in out + err
    assert out.count("***") == 3
    assert err.count("***") == 2


def test_a_time_left_that_is_foretold_replaces_the_rate(clock: list[float]) -> None:
    progress, stream = progress_on(terminal=False)
    with progress.stage("train", 20, "epochs") as stage:
        assert isinstance(stage, Foretelling)
        stage.expect(None)
        clock[0] += 20
        stage.advance(0.1)  # most of the time went into a round
        stage.expect(7200, at_least=True)
        clock[0] += 20
        stage.advance(0.9)
        clock[0] += 30
        stage.expect(400)
        clock[0] += 100
        stage.advance()
    assert stream.getvalue().splitlines() == [
        "train: 0/20 epochs, time left known after an epoch",
        "train: 1/20 epochs, at least 2 h 00 min left in all",
        "train: 2/20 epochs, about 5 min left in all",
    ]


def test_a_terminal_shows_a_time_left_that_is_foretold() -> None:
    progress, stream = progress_on(terminal=True)
    with progress.stage("train", 20, "epochs") as stage:
        assert isinstance(stage, Foretelling)
        stage.expect(45)
        assert progress._live is not None
        progress._live.refresh()
    assert "about 45 s" in stream.getvalue() or "about 44 s" in stream.getvalue()
