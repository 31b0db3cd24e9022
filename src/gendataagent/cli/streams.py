"""Standard output and error that can take every character and never end a command.

A terminal may know only ASCII, a pipe may be closed, a disk may be full: what was computed is on
disk before anything is printed, and printing goes on as far as it can.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO, cast

from gendataagent.core.secrets import without_secrets

ESCAPE = "gendataagent.escape"
_PIPE_CLOSED = (errno.EPIPE, errno.EINVAL)  # Windows reports a closed pipe as EINVAL


def _escape(error: UnicodeError) -> tuple[str, int]:
    """Return the characters that a stream cannot encode as in TOML: \\u00e9, \\U0001f600."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    codes = map(ord, error.object[error.start : error.end])
    text = "".join(f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}" for code in codes)
    return text, error.end


codecs.register_error(ESCAPE, _escape)


class SteadyStream:
    """A text stream whose `write` and `flush` never raise, and that shows no secrets: warnings and
    logs of libraries pass through it too.

    Attributes:
        failure: why the stream stopped taking text; None while it works.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.failure: OSError | ValueError | None = None
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=ESCAPE)

    def write(self, text: str) -> int:
        """Write text; from the first failure on, drop it."""
        if self.failure is None:
            try:
                self._stream.write(without_secrets(text))
            except (OSError, ValueError) as error:
                self._give_up(error)
        return len(text)

    def flush(self) -> None:
        """Flush the stream; a failure is kept in `failure`."""
        if self.failure is None:
            try:
                self._stream.flush()
            except (OSError, ValueError) as error:
                self._give_up(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _give_up(self, error: OSError | ValueError) -> None:
        self.failure = error
        # The interpreter flushes at its end once more, and would report the failure again.
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


@contextlib.contextmanager
def steady_streams() -> Iterator[None]:
    """Make `sys.stdout` and `sys.stderr` steady while the block runs.

    Raises:
        SystemExit: at the end, with code 1, if standard output could not be written for another
            reason than a reader that closed the pipe.
    """
    before = sys.stdout, sys.stderr
    out, err = (SteadyStream(stream or _nowhere()) for stream in before)
    sys.stdout, sys.stderr = cast(TextIO, out), cast(TextIO, err)
    try:
        yield
    finally:
        out.flush()
        if lost := out.failure if not _reader_left(out.failure) else None:
            reason = getattr(lost, "strerror", None) or lost
            err.write(f"error: standard output cannot be written: {reason}\n")
        err.flush()
        sys.stdout, sys.stderr = before
        ending = sys.exc_info()[1]
        if lost and (ending is None or (isinstance(ending, SystemExit) and not ending.code)):
            raise SystemExit(1)


def _reader_left(failure: Exception | None) -> bool:
    return isinstance(failure, OSError) and failure.errno in _PIPE_CLOSED


def _nowhere() -> TextIO:
    """Return a stream for a process that was started without one."""
    return open(os.devnull, "w", encoding="utf-8")
