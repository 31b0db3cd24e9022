"""What ended a command, in one sentence."""

from __future__ import annotations

import tempfile
import traceback

from gendataagent.core.devices import is_out_of_memory
from gendataagent.core.errors import GenDataAgentError
from gendataagent.core.plugins import package_at_fault
from gendataagent.core.secrets import without_secrets


def explain(error: Exception) -> str:
    """Return what happened and what to do.

    The traceback of an error that this package does not expect is written to a temporary file.
    """
    if isinstance(error, GenDataAgentError):
        return str(error)
    if is_out_of_memory(error):
        return (
            "memory ran out. Lower training.batch_size, generation.batch_size or "
            "generation.workers, or choose smaller models; what is finished is on disk"
        )
    what = " ".join(f"{type(error).__name__}: {error}".split())[:500]
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror or what}{_where_kept(error)}"
    if package := package_at_fault(error):
        return f"{what}. This is a fault of {package}, an installed part{_where_kept(error)}"
    return (
        f"{what}. This is a fault of gendataagent; please report it, with the command that you "
        f"ran{_where_kept(error)}"
    )


def _where_kept(error: Exception) -> str:
    """Write the traceback to a temporary file; return where, to end a sentence with."""
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="gendataagent-error-", suffix=".txt", delete=False, errors="replace"
        ) as stream:
            stream.write(without_secrets("".join(traceback.format_exception(error))))
        return f" (details: {stream.name})"
    except (OSError, ValueError):  # nowhere to keep it
        return ""
