"""Search texts for a regular expression of the user's.

Run as a script it is a process of its own, which can be ended: some expressions would search one
name for years, and Python cannot stop that from within.
"""

from __future__ import annotations

import json
import re
import sys
import warnings
from collections.abc import Iterable, Iterator


def search(expression: str, texts: Iterable[str]) -> Iterator[str | None]:
    """Yield what the first bracket fits in each text; of an expression without one, all it fits.

    None where the expression does not fit, or the bracket takes no part in it.

    Raises:
        ValueError: it is no regular expression; says why.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what a later Python may read otherwise
            pattern = re.compile(expression)
    except (re.error, OverflowError, RecursionError, MemoryError) as error:
        raise ValueError(str(error) or type(error).__name__) from error
    group = min(pattern.groups, 1)
    for text in texts:
        found = pattern.search(text)
        yield found[group] if found else None


if __name__ == "__main__":
    request = json.load(sys.stdin)
    try:
        for name in search(request["expression"], request["texts"]):
            print(json.dumps(name), flush=True)  # so that the text that never ends can be named
    except ValueError as error:
        sys.exit(str(error))
