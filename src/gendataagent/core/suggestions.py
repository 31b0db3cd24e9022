"""What a user may have meant by a name that does not exist."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def closest(name: str, known: Iterable[str], *, at_most: int = 1) -> list[str]:
    """Return the known names spelt most like `name`, best first; none where nothing is close."""
    return difflib.get_close_matches(name, list(known), n=at_most)


def did_you_mean(name: str, known: Iterable[str], *, otherwise: str = "there are") -> str:
    """Return "did you mean X?", or every known name after `otherwise` where nothing is close."""
    names = list(known)
    close = closest(name, names)
    return f"did you mean {close[0]}?" if close else f"{otherwise}: {', '.join(names)}"
