"""Seeds and ids come from what a thing is; records go to JSON and back unchanged."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gendataagent.core.records import (
    SEED_BITS,
    Candidate,
    RoundRecord,
    RunManifest,
    candidate_id,
    derive_seed,
)
from gendataagent.core.rows import fit

TEXTS = st.text(st.characters(codec="utf-8"))  # no lone surrogates

CANDIDATE = Candidate(
    id="r000-0-v0",
    round=0,
    source_id="katze/Ünï 1.jpg",
    label=1,
    class_name="Kätzchen",
    variant=0,
    seed=2**63 - 1,
    strength=0.75,
    guidance_scale=7.5,
    num_inference_steps=30,
    negative_prompt="blurry",
)


# Runs of earlier versions must stay repeatable: if one of these changes, every image changes.
@pytest.mark.parametrize(
    ("parts", "seed"),
    [
        ((0,), 103087486657883080),
        ((0, "candidate", 3, "cat/ünï.jpg", 1), 7972445397247514856),
        ((7, "caption", "a"), 8613477116931339661),
    ],
)
def test_derived_seeds_are_pinned(parts: tuple[Any, ...], seed: int) -> None:
    assert derive_seed(*parts) == seed


def test_a_seed_is_the_same_in_another_process() -> None:
    code = "from gendataagent.core.records import derive_seed; print(derive_seed(1, 'x', 2))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, check=True, env={"PYTHONHASHSEED": "5"})
    assert int(done.stdout) == derive_seed(1, "x", 2)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((0, "a", "bc"), (0, "ab", "c")),
        ((0, "1"), (0, 1)),
        ((0, "a"), (1, "a")),
        ((0, 1, 23), (0, 12, 3)),
        ((0, "a", "b"), (0, "b", "a")),
        ((0, ""), (0,)),
    ],
)
def test_other_parts_give_another_seed(one: tuple[Any, ...], other: tuple[Any, ...]) -> None:
    assert derive_seed(*one) != derive_seed(*other)


@given(st.integers(), st.lists(TEXTS | st.integers()))
def test_any_seed_fits_a_torch_generator(run_seed: int, what: list[str | int]) -> None:
    assert 0 <= derive_seed(run_seed, *what) < 2**SEED_BITS


def test_seeds_use_all_their_bits() -> None:
    every_bit = 0
    for i in range(300):
        every_bit |= derive_seed(0, i)
    assert every_bit == 2**SEED_BITS - 1


@given(TEXTS, st.integers(0, 50))
def test_a_candidate_id_is_a_safe_file_name(source: str, variant: int) -> None:
    found = candidate_id(12, source, variant)
    assert re.fullmatch(r"r012-[0-9a-f]{16}-v\d+", found)
    assert found == candidate_id(12, source, variant)


def test_candidate_ids_are_pinned_and_differ_by_round_source_and_variant() -> None:
    assert candidate_id(3, "cat/ünï.jpg", 1) == "r003-f18486deaba7c0c9-v1"
    ids = {candidate_id(r, s, v) for r in range(3) for s in ("a", "b", "A") for v in range(3)}
    assert len(ids) == 27


def test_a_candidate_survives_json_and_ignores_unknown_columns() -> None:
    row = json.loads(json.dumps(CANDIDATE.to_json()))
    assert fit(Candidate, row) == CANDIDATE
    wider = {**row, "file_name": "x.png", "kept": True}
    assert fit(Candidate, wider, ignore_unknown=True) == CANDIDATE


def test_a_candidate_is_kept_until_it_is_rejected() -> None:
    assert CANDIDATE.kept
    assert not replace(CANDIDATE, rejected_by="vog").kept
    assert CANDIDATE.file_name == "r000-0-v0.png"


def test_a_round_record_survives_json() -> None:
    record = RoundRecord(
        round=1, epoch=10, selected=2, made=4, kept=3,
        rejected={"vog": 1}, seconds={"render": 1.5}, notes=("said so",),
    )  # fmt: skip
    assert fit(RoundRecord, json.loads(json.dumps(record.to_json()))) == record


def test_a_manifest_becomes_plain_json() -> None:
    manifest = RunManifest(
        created="2026-01-01T00:00:00+00:00", seed=0, config_hash="c", data_fingerprint="d",
        class_names=("a", "b"), images_per_split={"train": 2}, quarantined=0, captioner=None,
        rewriter=None, generator=None, environment={"python": "3.11"},
    )  # fmt: skip
    row = json.loads(json.dumps(manifest.to_json()))
    assert row["schema_version"] == 1
    assert row["class_names"] == ["a", "b"]
    assert row["generator"] is None
