"""What is suggested for a misspelt name."""

from __future__ import annotations

from gendataagent.core.suggestions import closest, did_you_mean

NAMES = ["marginal", "entropy", "margin"]


def test_the_closest_name_is_suggested() -> None:
    assert did_you_mean("marginl", NAMES) == "did you mean marginal?"
    assert closest("marginl", NAMES, at_most=2) == ["marginal", "margin"]


def test_every_name_is_listed_where_none_is_close() -> None:
    assert did_you_mean("zzz", NAMES) == "there are: marginal, entropy, margin"
    assert did_you_mean("zzz", NAMES, otherwise="allowed") == "allowed: marginal, entropy, margin"
    assert closest("zzz", NAMES) == []
