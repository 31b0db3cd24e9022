"""Every exception that this package raises on purpose.

Each class also inherits the matching built-in type, so callers can catch either. All of them
survive pickling (they cross process boundaries in the process executor). A message says what
happened, what was found, what is allowed and what to do next.
"""

from __future__ import annotations

from collections.abc import Sequence


class GenDataAgentError(Exception):
    """Base of all errors raised on purpose; the command line prints these without a traceback."""


class ConfigError(GenDataAgentError, ValueError):
    """One or more settings are wrong; `problems` has one sentence for each."""

    def __init__(self, problems: Sequence[str] | str) -> None:
        self.problems: tuple[str, ...] = (
            (problems,) if isinstance(problems, str) else tuple(problems)
        )
        super().__init__(self.problems)

    def __str__(self) -> str:
        if len(self.problems) == 1:
            return self.problems[0]
        lines = "\n".join(f"  - {problem}" for problem in self.problems)
        return f"{len(self.problems)} settings are wrong:\n{lines}"


class DataError(GenDataAgentError, ValueError):
    """The user's images or labels cannot be used."""


class ImageUnreadableError(DataError):
    """One image cannot be used (truncated, not an image, too large, ...); it is quarantined."""


class ModelError(GenDataAgentError, OSError):
    """A model cannot be found or loaded, or its parts do not fit together."""


class RunFolderError(GenDataAgentError, RuntimeError):
    """A run folder cannot be used: not a run, locked by another run, or of other settings."""


class StorageError(GenDataAgentError, OSError):
    """Writing failed (disk full, no permission). Files that were complete before are unchanged."""


class MemoryShortError(GenDataAgentError, MemoryError):
    """The memory of this machine or of its GPU ran out; finished work is on disk."""


class TrainingDivergedError(GenDataAgentError, ArithmeticError):
    """The training loss is not a finite number."""


class TrainingProcessError(GenDataAgentError, RuntimeError):
    """A process that trains beside the main one has ended; finished work is on disk."""


class ScoreError(GenDataAgentError, ArithmeticError):
    """The scores of some images are not finite, so they cannot be ranked."""


class GenerationError(GenDataAgentError, RuntimeError):
    """A captioner, rewriter or generator failed or broke its contract."""
