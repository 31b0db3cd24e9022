"""The door of the command line: `gendataagent` and `python -m gendataagent`."""

import os
import signal
import sys
from types import FrameType

_STOPPED_BY_USER = 130  # what shells report for Ctrl-C


def main() -> None:
    """Run the command line; Ctrl-C prints no traceback while it is imported or Python ends."""
    try:
        from gendataagent.cli import main as command_line
    except KeyboardInterrupt:
        sys.exit(_STOPPED_BY_USER)
    try:
        command_line()
    finally:
        signal.signal(signal.SIGINT, _leave)


def _leave(_: int, __: FrameType | None) -> None:
    os._exit(_STOPPED_BY_USER)


if __name__ == "__main__":
    main()
