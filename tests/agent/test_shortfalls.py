"""A round that had to do without its captions, rewrites or images says so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gendataagent.agent.shortfalls import shortfalls
from gendataagent.core.protocols import Rewrite
from gendataagent.core.records import Candidate

CLASSES = ("dog", "cat")


def candidate(number: int, **changes: Any) -> Candidate:
    row: dict[str, Any] = {
        "id": f"c{number}", "round": 0, "source_id": f"s{number}", "label": 0, "class_name": "dog",
        "variant": 0, "seed": 1, "strength": 0.5, "guidance_scale": 2.0, "num_inference_steps": 2,
        "negative_prompt": "", "source_caption": "brown, on grass",
    }  # fmt: skip
    return Candidate(**{**row, **changes})


def notes(
    changed: Sequence[dict[str, Any]], rewrites: Sequence[Rewrite] = (), **asked: Any
) -> tuple[str, ...]:
    """Return what is said of 8 candidates, some of them changed."""
    judged = [candidate(n, **(changed[n] if n < len(changed) else {})) for n in range(8)]
    settings = {"captioned": True, "rewritten": True, "filter_name": "vog", **asked}
    answers = ((f"c{n}", rewrite) for n, rewrite in enumerate(rewrites))
    return shortfalls(judged, answers, CLASSES, **settings)


def test_a_quarter_is_not_mentioned() -> None:
    good = [Rewrite(text="brown, on wet grass")] * 6
    replaced = [Rewrite(text="x", by="visible-attributes", refusals=("missing",))] * 2
    assert notes([{"source_caption": ""}] * 2, good + replaced) == ()
    assert notes([{"rejected_by": "black-image"}] * 2) == ()


def test_captions_that_are_empty_or_name_another_class() -> None:
    (note,) = notes([{"source_caption": ""}, {"source_caption": "a cat"}, {"source_caption": None}])
    assert note.startswith("More than a quarter of the captions of this round could not be used: 3")
    assert "3 of 8 (2 empty, 1 naming another class)" in note
    assert "\"a cat\" names 'cat' where the class is 'dog'; rename the classes" in note
    assert notes([{"source_caption": ""}] * 8, captioned=False) == ()


def test_rewrites_that_were_replaced_or_dropped() -> None:
    replaced = Rewrite(text="x", by="visible-attributes", refusals=("missing", "markup", "missing"))
    answers = [replaced] * 2 + [Rewrite(text="a cat")] + [Rewrite(text="brown")] * 5
    (note,) = notes([], answers)
    assert "rewrites of this round were not used: 3 of 8 (2 replaced by visible-attributes" in note
    assert "1 dropped for naming another class)" in note
    assert "refused as: missing (4), markup (2)" in note
    assert notes([], answers, rewritten=False) == ()


def test_images_that_never_reach_the_filter() -> None:
    lost = [{"rejected_by": "black-image"}] * 2 + [{"rejected_by": "repeats-test-image"}]
    (note,) = notes(lost)
    assert "images of this round were rejected before the filter: 3 of 8" in note
    assert "(2 black-image, 1 repeats-test-image)" in note
    assert notes([{"rejected_by": "vog"}] * 8) == ()
    assert notes([{"rejected_by": "adaptive: hurts on validation"}] * 8) == ()


def test_ordinary_class_names_lose_no_caption() -> None:
    judged = [
        candidate(n, class_name="ABCDE"[n % 5], source_caption=f"a small dog, {n} of b")
        for n in range(10)
    ]
    said = shortfalls(judged, [], tuple("ABCDE"), captioned=True, rewritten=True, filter_name="vog")
    assert said == ()
