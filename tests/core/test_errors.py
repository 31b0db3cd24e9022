"""Exceptions: each is of two kinds, and survives the way between processes."""

from __future__ import annotations

import pickle

import pytest

from gendataagent.core import errors
from gendataagent.core.errors import ConfigError, GenDataAgentError

STANDARD_TYPE = {
    errors.ConfigError: ValueError,
    errors.DataError: ValueError,
    errors.ImageUnreadableError: ValueError,
    errors.ModelError: OSError,
    errors.RunFolderError: RuntimeError,
    errors.StorageError: OSError,
    errors.MemoryShortError: MemoryError,
    errors.TrainingDivergedError: ArithmeticError,
    errors.TrainingProcessError: RuntimeError,
    errors.ScoreError: ArithmeticError,
    errors.GenerationError: RuntimeError,
}


def test_the_table_above_holds_every_exception() -> None:
    found = {value for value in vars(errors).values() if isinstance(value, type)}
    assert {c for c in found if issubclass(c, GenDataAgentError)} == {
        GenDataAgentError,
        *STANDARD_TYPE,
    }


@pytest.mark.parametrize("kind", STANDARD_TYPE, ids=lambda kind: kind.__name__)
def test_is_both_kinds_and_pickles(kind: type[GenDataAgentError]) -> None:
    error = kind("cannot read ünï.jpg; do this")
    assert isinstance(error, GenDataAgentError)
    assert isinstance(error, STANDARD_TYPE[kind])
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert str(again) == str(error) == "cannot read ünï.jpg; do this"


def test_config_error_shows_every_problem_and_keeps_them_through_pickling() -> None:
    error = ConfigError(["a is wrong", "b is wrong"])
    again = pickle.loads(pickle.dumps(error))
    assert again.problems == error.problems == ("a is wrong", "b is wrong")
    assert str(again) == "2 settings are wrong:\n  - a is wrong\n  - b is wrong"
    assert str(ConfigError("only this")) == "only this"
