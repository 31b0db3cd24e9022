"""What is shown has no secrets."""

from __future__ import annotations

import json
from urllib.parse import quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gendataagent.core import secrets
from gendataagent.core.secrets import remember_secret, shown

KEY = "sk-Secret+0123/456789=="


@pytest.fixture(autouse=True)
def nothing_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "_remembered", set())


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("cat", "cat"),
        ("Kätzchen 犬 👍🏽", "Kätzchen 犬 👍🏽"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("\x1b[31mred\x1b[0m\x07", "red"),
        ("http://me:sesame@host:3128/x", "http://***@host:3128/x"),
        ("see http://h/?api_key=abcdef&x=1", "see http://h/?api_key=***&x=1"),
        ("Authorization: Bearer abcdefgh.ij", "Authorization: Bearer ***"),
        ("me@host and a bearer of news", "me@host and a bearer of news"),
    ],
)
def test_control_characters_and_credentials_are_left_out(text: str, seen: str) -> None:
    assert shown(text) == seen


@pytest.mark.parametrize("how", ["remembered", "MY_SERVER_TOKEN", "OPENAI_API_KEY"])
@pytest.mark.parametrize(
    "form",
    [
        KEY,
        KEY.lower(),
        quote_plus(KEY),
        json.dumps(KEY),
        f"{KEY[:3]}\x1b[0m{KEY[3:]}",
        f"{KEY[:6]}\x00{KEY[6:]}",
        f"Location: http://host/{KEY}?x",
        KEY[:18],
    ],
)
def test_a_secret_is_hidden_in_every_form(
    how: str, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if how == "remembered":
        remember_secret(KEY)
    else:
        monkeypatch.setenv(how, KEY)
    seen = shown(f"rejected {form}!")
    assert "***" in seen
    assert "0123" not in seen.replace("%2B", "+")
    assert seen.startswith("rejected ")


def test_short_values_and_files_of_keys_are_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "a")
    monkeypatch.setenv("SSH_KEY", "/home/me/.ssh/id")
    remember_secret("")
    assert shown("a cat in /home/me/.ssh/id") == "a cat in /home/me/.ssh/id"


@given(st.text())
def test_what_is_shown_may_be_shown_again(text: str) -> None:
    assert shown(shown(text)) == shown(text)
