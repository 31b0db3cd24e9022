"""Settings files and overrides of any content: settings, or sentences that name the file."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gendataagent.config import RunConfig
from gendataagent.config.settings import apply_overrides, iterate_settings
from gendataagent.core.errors import ConfigError

KEYS = [row.key for row in iterate_settings(RunConfig())]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(), inside, max_size=3),
    max_leaves=6,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary() | st.text().map(str.encode))
@example(content=b"\xef\xbb\xbf")
def test_any_file_is_settings_or_a_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(content)
    with contextlib.suppress(ConfigError):
        RunConfig.from_toml(path)


@given(st.sampled_from(KEYS), VALUES)
@example("seed", 10**5000)
@example("data.path", "\udcff")
def test_any_value_of_any_setting_is_taken_or_refused(key: str, value: object) -> None:
    *section, name = key.split(".")
    with contextlib.suppress(ConfigError):
        config = RunConfig.from_dict({section[0]: {name: value}} if section else {name: value})
        config.to_toml().encode()


@given(st.lists(st.text() | st.builds("{}={}".format, st.sampled_from(KEYS), st.text())))
def test_any_override_is_taken_or_refused(overrides: list[str]) -> None:
    with contextlib.suppress(ConfigError):
        RunConfig.from_dict(apply_overrides({}, overrides)).to_toml().encode()


def test_a_section_that_is_a_value_is_named() -> None:
    with pytest.raises(ConfigError, match="data must be a table, got 3"):
        RunConfig.from_dict({"data": 3})
