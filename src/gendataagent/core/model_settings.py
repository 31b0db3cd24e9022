"""What the settings of somebody else's model may not ask for: code from the hub, endless memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gendataagent.core.files import parse_others_json, read_bytes

_MOST_LABELS = 10_000_000  # transformers makes a name for each


def fault_of_settings(path: Path, *, trust_remote_code: bool = False) -> str | None:
    """Return why a JSON file of settings is not used, and what to do, to end a sentence with.

    None where it may be, or where it cannot be read, which others say.

    Args:
        trust_remote_code: whether it may name code of the hub.
    """
    try:
        tree = parse_others_json(read_bytes(path))
    except (OSError, ValueError):
        return None
    for key, value in _entries(tree):
        if "_implementation" in key and "/" in str(value) and not trust_remote_code:
            return (
                f"asks for code of the hub ({key} = {str(value)[:80]!r}), which is not run by "
                "default: remove this key, or read the code, then give --trust-remote-code (in "
                "Python: trust_remote_code=True)"
            )
        if key == "num_labels" and isinstance(value, int) and value > _MOST_LABELS:
            return f"has {key} = {value:,}, more than any classifier; download it again"
    return None


def _entries(tree: Any) -> Iterator[tuple[str, Any]]:
    """Yield (key, value) at every depth."""
    waiting = [tree]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield from value.items()
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
