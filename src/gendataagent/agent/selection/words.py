"""What the selected images are called."""

from __future__ import annotations


def selected_noun(by: str, *, trained: bool = True) -> str:
    """Return "hard images", or "sources" where they are drawn at random.

    Args:
        by: `selection.by`.
        trained: whether the classifier was; an untrained one selects at random.
    """
    return "hard images" if trained and by != "uniform" else "sources"
