"""A whole run on classes whose names are markup, escapes and other scripts, on a poor terminal."""

from __future__ import annotations

import functools
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gendataagent.cli import main

NAMES = ("pawn [/w]", "king [red]", "rook \x1b]0;title\x07", "猫 :smile:", "50% $x_$ <b>&amp;",
         "queen\nall 9 files are what was written")  # fmt: skip


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("hostile")
    rng = np.random.default_rng(0)
    for split, count in (("train", 4), ("validation", 2), ("test", 2)):
        for name in NAMES:
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{split[0]}{number}.png")
    return root


def shown_by(*arguments: str, to: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """Return what a command prints on streams that know only ASCII; it must end well."""
    code: object = 0
    with open(to, "w", encoding="ascii") as stream, monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", stream)
        patched.setattr(sys, "stderr", stream)
        patched.setattr(sys, "argv", ["gendataagent", *arguments])
        try:
            main()
        except SystemExit as ending:
            code = ending.code
    assert not code, to.read_text()
    return to.read_bytes()


@pytest.mark.integration
@pytest.mark.skipif(sys.platform == "win32", reason="such names are no file names there")
def test_a_run_ends_well_and_can_be_read_again(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    show = functools.partial(shown_by, to=tmp_path / "terminal", monkeypatch=monkeypatch)
    run, data = tmp_path / "run", ("--data", str(photos))
    settings = ("--epochs", "1", "--set", "agent.enabled=false", "--set", "device=cpu")
    shown = show("run", *data, "--out", str(run), *settings)
    assert (run / "report.html").exists()
    for arguments in (
        ("evaluate", str(run)),
        ("evaluate", str(run), *data),
        ("predict", str(run), str(photos), "--top", "5"),
        ("predict", str(run), str(photos), "--json"),
        ("report", str(run)),
        ("audit", "--run", str(run)),
    ):
        shown += show(*arguments)
    assert not {0x1B, 0x07} & {*shown}
    assert b"\nall 9 files" not in shown
    for name in ("pawn [/w]", "king [red]", "rook ]0;title", "\\u732b :smile:"):
        assert name.encode() in shown
