"""Standard output that ends, fills up or knows few characters costs no result and no traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

WRITE = (
    "import sys; from gendataagent.cli.streams import steady_streams; "
    "from gendataagent.cli.console import say, write\n"
    "with steady_streams():\n"
)


def python(code: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Run code inside `steady_streams` in a process of its own; `env` is added to this one's."""
    if "stdout" not in options:
        options["capture_output"] = True
    options["env"] = {**os.environ, **options.get("env", {})}
    return subprocess.run([sys.executable, "-c", WRITE + code], timeout=200, check=False, **options)


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "ascii:strict", "cp437", "latin-1"])
def test_every_character_is_printed_on_every_stream(encoding: str) -> None:
    done = python(
        "  say('猫 \\U0001f408 dög \\udcff'); say('é', to_error=True); print('\\u2264')",
        env={"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"},
    )
    assert done.returncode == 0, done.stderr
    assert b"\\u732b \\U0001f408 d" in done.stdout
    assert b"\\udcff" in done.stdout


def test_characters_of_undecodable_file_names_are_printed_in_utf_8() -> None:
    done = python("  say('a\\udcffb')", env={"PYTHONIOENCODING": "utf-8"})
    assert (done.returncode, done.stdout) == (0, b"a\\udcffb\n")


@pytest.mark.parametrize("lines", [1, 20_000])
def test_a_reader_that_leaves_does_not_end_the_command(lines: int, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    after = tmp_path / "after"
    code = f"  for _ in range({lines}): say('line')\n  open({str(after)!r}, 'w').close()"
    done = python(code, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")
    assert after.exists()


def test_progress_on_a_closed_pipe_does_not_end_the_command(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    code = "  say('note', to_error=True); print('result')"
    done = python(code, stdout=subprocess.PIPE, stderr=writer)
    os.close(writer)
    assert (done.returncode, done.stdout) == (0, b"result\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_under_standard_output_is_reported() -> None:
    with open("/dev/full", "wb") as full:
        done = python("  say('x')", stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1
    assert done.stderr == b"error: standard output cannot be written: No space left on device\n"


@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")
def test_a_process_without_streams_works(tmp_path: Path) -> None:
    code = f"{WRITE}  say('x'); sys.stdout.isatty(); open({str(tmp_path / 'done')!r}, 'w')"
    done = subprocess.run(["sh", "-c", '"$0" -c "$1" >&- 2>&-', sys.executable, code], timeout=60)
    assert done.returncode == 0
    assert (tmp_path / "done").exists()


def test_warnings_and_logs_of_libraries_show_no_key() -> None:
    key = "sk-0123456789abcdefgh"
    code = (
        "  import logging, os, warnings; key = os.environ['MY_API_KEY']\n"
        "  logging.basicConfig(); logging.warning('log %s', key); warnings.warn(f'warn {key}')\n"
        "  print(f'print {key}'); sys.stderr.write(f'write {key}')"
    )
    done = python(code, env={"MY_API_KEY": key})
    shown = done.stdout + done.stderr
    assert done.returncode == 0, done.stderr
    assert key.encode() not in shown
    assert all(word in shown for word in (b"log ***", b"warn ***", b"print ***", b"write ***"))
