"""`~` in arguments that the shell leaves to the program."""

from __future__ import annotations

import pytest

from gendataagent.cli import with_home


def test_home_is_resolved_where_a_path_starts_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    given = ["run", "--out=~/runs/a", "--data", "~/photos", "--set", "seed=1", "a~/b", "~b"]
    expected = ["run", "--out=/home/me/runs/a", "--data", "/home/me/photos", *given[4:]]
    assert with_home(given) == expected
