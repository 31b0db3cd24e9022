"""Decisions by hand: what a run and an export make of them, and which are refused."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from torch import nn

from gendataagent import Agent
from gendataagent.agent.by_hand.decisions import (
    HandDecision,
    append_decisions,
    hold_decisions,
    pool_name,
    read_decisions,
)
from gendataagent.agent.by_hand.rules import DROP, KEEP, UNDECIDED, why_not_keepable
from gendataagent.agent.pool import Pool
from gendataagent.core import files
from gendataagent.core.errors import RunFolderError
from gendataagent.core.files import file_sha256
from gendataagent.core.journal import checked_line, read_journal
from gendataagent.core.run_folder import RunFolder
from tests.agent.test_own_loop import CLASSES, SIZE_PX, InMemory, darker

EPOCHS = 8  # rounds after the first and the fifth


def decide(folder: RunFolder, decision: str, *ids: str) -> None:
    """Write decisions as `gendataagent review` does."""
    images = ((id_, int(id_[1:4])) for id_ in ids)
    append_decisions(
        folder,
        [
            HandDecision(
                id=id_,
                round=number,
                decision=decision,
                sha256=file_sha256(folder.path / pool_name(number, id_)),
                at="2026-01-01T00:00:00+00:00",
            )
            for id_, number in images
        ],
    )


@pytest.fixture
def model() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE_PX * SIZE_PX, len(CLASSES)))


def opened(out: Path) -> Agent:
    settings: dict[str, Any] = {
        "agent.first_round_epoch": 1, "filter.by": "random", "filter.drop_share": 0.5,
        "selection.share": 0.5, "prompting.rewrites": 2,
    }  # fmt: skip
    return Agent.open(InMemory(), out=out, backends=darker(), epochs=EPOCHS, rounds=2, **settings)


@pytest.fixture
def asked(tmp_path: Path, model: nn.Module) -> tuple[Agent, RunFolder, nn.Module]:
    """An agent after its first round, in the second of eight epochs."""
    agent = opened(tmp_path / "run")
    for epoch in (0, 1):
        agent.ask(model, epoch=epoch)
    return agent, RunFolder(tmp_path / "run"), model


def of_round(agent: Agent, number: int, *, kept: bool) -> list[str]:
    return [c.id for c in agent.pool.candidates(number) if c.kept is kept]


Asked = tuple[Agent, RunFolder, nn.Module]


def test_decisions_take_effect_with_the_next_epoch(asked: Asked) -> None:
    agent, folder, model = asked
    before = agent.ask(model, epoch=1).ids
    drop, keep = of_round(agent, 0, kept=True)[0], of_round(agent, 0, kept=False)[0]
    decide(folder, DROP, drop)
    decide(folder, KEEP, keep)
    after = agent.ask(model, epoch=2)
    assert set(after.ids) == {*before, keep} - {drop}
    assert all(candidate.kept for candidate in after.candidates)
    assert [row["epoch"] for row in files.read_jsonl(folder.decisions_in_effect_file)] == [2]
    decide(folder, UNDECIDED, drop, keep)
    assert agent.ask(model, epoch=3).ids == before


def test_an_epoch_trained_again_has_the_decisions_it_had(asked: Asked) -> None:
    agent, folder, model = asked
    first, second = of_round(agent, 0, kept=True)[:2]
    decide(folder, DROP, first)
    in_second = agent.ask(model, epoch=2).ids
    decide(folder, DROP, second)
    in_third = agent.ask(model, epoch=3).ids
    again = opened(folder.path)
    assert again.ask(model, epoch=2).ids == in_second
    assert again.ask(model, epoch=3).ids == in_third
    assert second in in_second
    assert second not in in_third


def test_without_decisions_nothing_is_written(asked: Asked) -> None:
    agent, folder, model = asked
    agent.ask(model, epoch=2)
    assert not folder.decisions_in_effect_file.parent.exists()


def test_what_is_saved_honours_later_decisions(asked: Asked, tmp_path: Path) -> None:
    agent, folder, model = asked
    synthetic = agent.ask(model, epoch=1)
    drop, keep = of_round(agent, 0, kept=True)[0], of_round(agent, 0, kept=False)[0]
    decide(folder, DROP, drop)
    decide(folder, KEEP, keep)
    wanted = {*synthetic.ids, keep} - {drop}
    assert set(synthetic.to_datasets()["id"]) == wanted
    synthetic.with_transform(None).save_to_disk(tmp_path / "kept")
    assert set(datasets.load_from_disk(str(tmp_path / "kept"))["id"]) == wanted
    assert set(Pool(folder, CLASSES).kept([0]).ids) == wanted
    assert drop in synthetic.ids  # what is trained on does not change under way


def test_decisions_survive_a_move_of_the_folder(asked: Asked, tmp_path: Path) -> None:
    agent, folder, _ = asked
    drop = of_round(agent, 0, kept=True)[0]
    decide(folder, DROP, drop)
    moved = folder.path.rename(tmp_path / "moved")
    assert drop not in Pool(RunFolder(moved), CLASSES).kept([0]).ids


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda row: row | {"id": "r000-feedc0dedeadbeef-v0"}, "r000-feedc0dedeadbeef-v0"),
        (lambda row: row | {"id": "../../../etc/passwd"}, "etc/passwd"),
        (lambda row: row | {"round": 7}, "of round 8"),
        (lambda row: row | {"round": -1}, "does not have"),
        (lambda row: row | {"sha256": "0" * 64}, "another image"),
        (lambda row: row | {"decision": "burn"}, "line 1 .*'burn'"),
        (lambda row: {"id": row["id"]}, "line 1 .*round"),
        (lambda row: row | {"round": "0"}, "line 1 .*round"),
    ],
)
def test_a_decision_about_what_is_not_there_is_refused_by_name(
    asked: Asked, change: Callable[[dict[str, Any]], dict[str, Any]], said: str
) -> None:
    agent, folder, model = asked
    decide(folder, DROP, of_round(agent, 0, kept=True)[0])
    row = change(read_journal(folder.decisions_file)[0])
    folder.decisions_file.write_bytes(checked_line(row) + b"\n")
    with pytest.raises(RunFolderError, match=said):
        agent.ask(model, epoch=2)
    with pytest.raises(RunFolderError, match=said):
        Pool(folder, CLASSES).kept([0])


def test_a_changed_line_is_refused_and_a_line_being_written_is_left_out(asked: Asked) -> None:
    agent, folder, _ = asked
    first, second = of_round(agent, 0, kept=True)[:2]
    decide(folder, DROP, first)
    whole = folder.decisions_file.read_bytes()
    decide(folder, DROP, second)
    both = folder.decisions_file.read_bytes()
    for end in range(len(whole), len(both)):
        folder.decisions_file.write_bytes(both[:end])
        assert read_decisions(folder).of_id == {first: DROP}
    folder.decisions_file.write_bytes(both.replace(b'"drop"', b'"keep"', 1))
    with pytest.raises(RunFolderError, match=r"line 1 .*has changed"):
        read_decisions(folder)


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5),
    st.sampled_from([KEEP, DROP, UNDECIDED, "../..", "a" * 300, 10**18, 10**400]),
    st.lists(st.integers(), max_size=2),
)  # fmt: skip
KEYS = st.sampled_from(["id", "round", "decision", "sha256", "at", "more"])


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    max_examples=settings().max_examples // 2,
)
@given(changes=st.lists(st.dictionaries(KEYS, VALUES, max_size=2), max_size=3), raw=st.binary())
@example(changes=[{"round": 10**300}], raw=b"")
def test_any_file_of_decisions_is_decisions_or_a_sentence(
    asked: Asked, changes: list[dict[str, Any]], raw: bytes
) -> None:
    agent, folder, _ = asked
    id_ = of_round(agent, 0, kept=True)[0]
    decide(folder, DROP, id_)
    row = read_journal(folder.decisions_file)[0]
    try:
        with contextlib.suppress(ValueError):  # what JSON cannot hold
            lines = [checked_line(row | change) + b"\n" for change in changes]
            folder.decisions_file.write_bytes(b"".join(lines) + raw)
        with contextlib.suppress(RunFolderError):
            assert read_decisions(folder).of_id.keys() <= {id_}
    finally:
        folder.decisions_file.unlink()


def test_half_a_line_is_cut_off_before_the_next(asked: Asked) -> None:
    agent, folder, _ = asked
    first, second = of_round(agent, 0, kept=True)[:2]
    decide(folder, DROP, first)
    with folder.decisions_file.open("ab") as stream:
        stream.write(b'{"id": "r0')
    with hold_decisions(folder):
        decide(folder, DROP, second)
        with (
            pytest.raises(RunFolderError, match=r"another review of .* is open"),
            hold_decisions(folder),
        ):
            pass
    assert read_decisions(folder).of_id == {first: DROP, second: DROP}


def test_lost_decisions_of_a_trained_epoch_are_no_fresh_start(asked: Asked) -> None:
    agent, folder, model = asked
    decide(folder, DROP, of_round(agent, 0, kept=True)[0])
    agent.ask(model, epoch=2)
    content = folder.decisions_file.read_bytes()
    folder.decisions_file.unlink()
    with pytest.raises(RunFolderError, match=r"decisions.jsonl is missing or has lost lines"):
        opened(folder.path).ask(model, epoch=3)
    folder.decisions_file.write_bytes(content)
    decide(folder, DROP, of_round(agent, 0, kept=True)[1])
    agent.ask(model, epoch=3)
    folder.decisions_in_effect_file.unlink()
    with pytest.raises(RunFolderError, match=r"in_effect.jsonl is missing"):
        opened(folder.path).ask(model, epoch=3)


def test_killed_before_the_first_record_of_decisions_it_goes_on(asked: Asked) -> None:
    """Its hash is on disk, the record is not; meanwhile more is decided."""
    agent, folder, model = asked
    first, second = of_round(agent, 0, kept=True)[:2]
    decide(folder, DROP, first)
    wanted = agent.ask(model, epoch=2).ids
    record = folder.decisions_in_effect_file
    content = record.read_bytes()
    record.unlink()
    decide(folder, DROP, second)
    assert second not in Pool(folder, CLASSES).kept([0]).ids
    assert opened(folder.path).ask(model, epoch=2).ids == wanted
    assert record.read_bytes() == content


def test_an_epoch_before_the_first_decision_is_trained_again_without_any(asked: Asked) -> None:
    """Where checkpoints are rarer than epochs."""
    agent, folder, model = asked
    before = agent.ask(model, epoch=1).ids
    decide(folder, DROP, before[0])
    after = agent.ask(model, epoch=2).ids
    again = opened(folder.path)
    assert again.ask(model, epoch=1).ids == before
    assert again.ask(model, epoch=2).ids == after == before[1:]


@pytest.mark.parametrize(
    ("rejected_by", "why"),
    [
        (None, None),
        ("vog", None),
        ("adaptive: share", None),
        ("repeats-test-image", "near-duplicate of a test image"),
        ("repeats-validation-image", "near-duplicate of a validation image"),
        ("black-image", "black"),
        ("flagged-by-safety-checker", "safety checker"),
        ("no-image", "no image"),
        ("class-cut-off", "before it was compared with the test images"),
        ("a plugin's reason", "before it was compared"),
        ("knn", "before it was compared"),  # of a run that filters by vog
    ],
)
def test_only_what_the_filter_dropped_can_be_kept(rejected_by: str | None, why: str | None) -> None:
    found = why_not_keepable(rejected_by, "vog")
    assert found is None if why is None else re.search(why, str(found))


def test_a_file_that_keeps_a_copy_of_a_test_image_is_refused(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent, folder, _ = asked
    ids = of_round(agent, 0, kept=False)
    decide(folder, KEEP, ids[0])
    copies = [replace(c, rejected_by="repeats-test-image") if c.id == ids[0] else c
              for c in agent.pool.candidates(0)]  # fmt: skip
    monkeypatch.setattr(Pool, "candidates", lambda *_: copies)
    with pytest.raises(RunFolderError, match=f"keeps {ids[0]}, which no one can keep by hand"):
        Pool(folder, CLASSES).kept([0])
