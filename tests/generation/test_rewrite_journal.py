"""Rewrites appended as they arrive, read back after a crash, and counted."""

from __future__ import annotations

from pathlib import Path

from gendataagent.core.protocols import Rewrite
from gendataagent.generation.rewrite_journal import RewriteJournal

FIRST = {
    "a": Rewrite(text="brown, im Grünen"),
    "b": Rewrite(text="in dim light", by="template", refusals=("empty", "another class")),
}
SECOND = {"c": Rewrite(text="grey", refusals=("empty",))}


def test_rewrites_are_read_back_and_counted(tmp_path: Path) -> None:
    journal = RewriteJournal(tmp_path / "rounds" / "rewrites.jsonl")
    assert (dict(journal.rewrites()), journal.counts("ab")) == ({}, {})
    journal.add(FIRST)
    journal.add(SECOND)
    assert dict(journal.rewrites()) == {**FIRST, **SECOND}
    assert journal.counts("abcd") == {
        "taken": 2,
        "replaced by template": 1,
        "refused: empty": 2,
        "refused: another class": 1,
    }


def test_only_the_candidates_of_the_round_count_and_each_once(tmp_path: Path) -> None:
    journal = RewriteJournal(tmp_path / "rewrites.jsonl")
    journal.add(FIRST)
    journal.add(FIRST)
    journal.add(SECOND)
    assert journal.counts(["a", "c"]) == {"taken": 2, "refused: empty": 1}


def test_a_torn_last_line_costs_only_its_batch(tmp_path: Path) -> None:
    path = tmp_path / "rewrites.jsonl"
    RewriteJournal(path).add(FIRST)
    RewriteJournal(path).add(SECOND)
    path.write_bytes(path.read_bytes()[:-9])
    assert dict(RewriteJournal(path).rewrites()) == FIRST
    RewriteJournal(path).add(SECOND)
    assert dict(RewriteJournal(path).rewrites()) == {**FIRST, **SECOND}
