"""plan -> caption -> rewrite -> render, with speakers that say what the test wants to hear."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gendataagent.config import GenerationConfig
from gendataagent.core.errors import ConfigError, GenerationError
from gendataagent.core.protocols import (
    CaptionRequest,
    ImageGenerator,
    Rendered,
    RenderRequest,
    Rewrite,
    RewriteRequest,
)
from gendataagent.core.records import (
    Candidate,
    ModelDescription,
    RenderedCandidate,
    Scored,
    candidate_id,
    derive_seed,
)
from gendataagent.generation import stages
from gendataagent.generation.prompts import compose_prompt

CLASSES = ("cat", "dog_sled")


def scored(source: str, label: int = 0, score: float = 0.1) -> Scored:
    return Scored(source_id=source, label=label, score=score)


def plan(selected: Sequence[Scored], rewrites: int = 2, run_seed: int = 7) -> list[Candidate]:
    return list(stages.plan(
        selected, round_number=3, rewrites=rewrites, class_names=CLASSES,
        settings=GenerationConfig(strength=0.6, negative_prompt="blurry"), run_seed=run_seed,
    ))  # fmt: skip


def image(source_id: str) -> Image.Image:
    return Image.new("RGB", (4, 4), (len(source_id), 0, 0))


class Speaker:
    """A captioner and rewriter that notes what it is asked."""

    description = ModelDescription(name="speaker")

    def __init__(self, say: Callable[[str, int], str] = lambda word, seed: f"{word} {seed}"):
        self.say = say
        self.asked: list[CaptionRequest] = []
        self.batches: list[int] = []

    def caption(self, requests: Sequence[CaptionRequest]) -> list[str]:
        self.asked.extend(requests)
        self.batches.append(len(requests))
        return [self.say(request.class_name, request.seed) for request in requests]

    def rewrite(self, requests: Sequence[RewriteRequest]) -> list[tuple[Rewrite, ...]]:
        self.batches.append(len(requests))
        return [
            tuple(Rewrite(text=self.say(r.caption, seed)) for seed in r.seeds) for r in requests
        ]

    def release(self) -> None:
        return None


def caption(
    candidates: Sequence[Candidate], captioner: Speaker, known: dict[str, str] | None = None
) -> list[Candidate]:
    return list(stages.caption(candidates, captioner, image, run_seed=7, known=known or {}))


def rewrite(candidates: Sequence[Candidate], say: Callable[[str, int], str]) -> list[Candidate]:
    return list(stages.rewrite(candidates, Speaker(say), class_names=CLASSES))


def test_a_plan_holds_m_candidates_of_each_source_hardest_first() -> None:
    found = plan([scored("b", 1, 0.1), scored("a", 0, 0.2)])
    assert [(c.source_id, c.variant) for c in found] == [("b", 0), ("b", 1), ("a", 0), ("a", 1)]
    assert found[0] == Candidate(
        id=candidate_id(3, "b", 0), round=3, source_id="b", label=1, class_name="dog_sled",
        variant=0, seed=derive_seed(7, "candidate", 3, "b", 0), strength=0.6, guidance_scale=7.5,
        num_inference_steps=30, negative_prompt="blurry", marginal_score=0.1,
    )  # fmt: skip


def test_each_candidate_gets_one_of_several_strengths_by_its_seed() -> None:
    settings, strengths = GenerationConfig(strengths=(0.25, 0.5, 1.0)), [0.25, 0.5, 1.0]

    def drawn(sources: Sequence[str], rewrites: int) -> dict[str, float]:
        planned = stages.plan(
            map(scored, sources), round_number=0, rewrites=rewrites, class_names=CLASSES,
            settings=settings, run_seed=1,
        )  # fmt: skip
        return {c.id: c.strength for c in planned}

    many = drawn([str(i) for i in range(300)], 2)
    counts = Counter(many.values())
    assert sorted(counts) == strengths
    assert all(150 < count < 250 for count in counts.values())
    assert drawn(["7", "5"], 1).items() <= many.items()


THREE = ("cat", "dog_sled", "eel")


def mixed(sources: Sequence[Scored], **settings: Any) -> list[Candidate]:
    config = GenerationConfig(prompt_class="other", **settings)
    planned = stages.plan(
        sources, round_number=0, rewrites=2, class_names=THREE, settings=config, run_seed=1
    )
    return list(stages.with_prompt_classes(planned, THREE, config))


def test_a_prompt_names_another_class_each_equally_likely_and_the_label_is_shared() -> None:
    sources = [scored(str(i), i % 3) for i in range(300)]
    made = mixed(sources, strengths=(0.25, 0.64), soft_label_gamma=0.5)
    pairs = Counter((c.source_class, c.class_name) for c in made)
    assert set(pairs) == {(a, b) for a in THREE for b in THREE if a != b}
    assert all(70 < count < 130 for count in pairs.values())
    assert all(c.class_name == THREE[c.label] and c.class_of_source == c.source_class for c in made)
    assert {(c.strength, c.label_share) for c in made} == {(0.25, 0.5), (0.64, 0.8)}
    assert {c.label_share for c in mixed(sources)} == {1.0}  # gamma 0: the prompt's class alone
    few = {c.id: c for c in mixed([scored("7", 1)], strengths=(0.25, 0.64), soft_label_gamma=0.5)}
    assert few.items() <= {c.id: c for c in made}.items()


def test_another_class_needs_a_second_one() -> None:
    config = GenerationConfig(prompt_class="other")
    with pytest.raises(ConfigError, match=r"prompt_class = other needs a second class"):
        list(stages.with_prompt_classes(plan([scored("a")]), ("cat",), config))


def test_by_default_the_prompt_names_the_class_of_the_source() -> None:
    planned = plan([scored("a", 1)])
    assert list(stages.with_prompt_classes(planned, CLASSES, GenerationConfig())) == planned
    assert (planned[0].source_class, planned[0].label_share) == (None, 1.0)
    assert planned[0].class_of_source == "dog_sled"


def test_the_captioner_is_told_the_class_of_the_image_and_the_rewriter_that_of_the_prompt() -> None:
    candidates = mixed([scored("a", 0)])
    speaker = Speaker(lambda words, seed: f"a {words}")
    captioned = caption(candidates, speaker)
    assert [request.class_name for request in speaker.asked] == ["cat"]
    asked: list[RewriteRequest] = []

    class Listener(Speaker):
        def rewrite(self, requests: Sequence[RewriteRequest]) -> list[tuple[Rewrite, ...]]:
            asked.extend(requests)
            return super().rewrite(requests)

    found = list(stages.rewrite(captioned, Listener(lambda w, _: w), class_names=THREE))
    assert {request.class_name for request in asked} == {c.class_name for c in candidates}
    # the caption names the class of the image, which the prompt must not
    assert [c.prompt for c in found] == [compose_prompt(c.class_name, "") for c in candidates]


def test_from_text_alone_strength_is_1() -> None:
    settings = GenerationConfig(start="noise", strengths=(0.25, 0.5))
    (candidate,) = stages.plan(
        [scored("a")], round_number=0, rewrites=1, class_names=CLASSES, settings=settings,
        run_seed=1,
    )  # fmt: skip
    assert (candidate.start, candidate.strength) == ("noise", 1.0)
    (request,) = stages._render_requests([candidate], image, None)
    assert (request.from_text, request.strength) == (True, 1.0)


@given(st.permutations(["a", "b", "ü", "a/b"]), st.integers(1, 4))
def test_ids_and_seeds_do_not_depend_on_the_order_of_the_sources(
    order: list[str], rewrites: int
) -> None:
    one = {c.id: c for c in plan([scored(s) for s in sorted(order)], rewrites)}
    other = {c.id: c for c in plan([scored(s) for s in order], rewrites)}
    assert one == other
    assert len({c.seed for c in one.values()}) == len(one) == 4 * rewrites


def test_more_rewrites_and_more_sources_leave_the_earlier_candidates_as_they_were() -> None:
    few = plan([scored("a")], rewrites=1)
    assert few[0] in plan([scored("b"), scored("a")], rewrites=3)


def test_each_source_is_captioned_once_with_a_seed_of_its_own_not_of_the_round() -> None:
    captioner = Speaker()
    found = caption(plan([scored("b", 1), scored("a")]), captioner)
    assert [request.class_name for request in captioner.asked] == ["dog_sled", "cat"]
    assert [request.seed for request in captioner.asked] == [
        derive_seed(7, "caption", "b"), derive_seed(7, "caption", "a"),
    ]  # fmt: skip
    assert captioner.asked[0].image.size == (4, 4)
    assert found[0].source_caption == found[1].source_caption
    assert found[0].source_caption == f"dog_sled {derive_seed(7, 'caption', 'b')}"


def test_captions_of_earlier_rounds_are_used_again() -> None:
    captioner = Speaker()
    found = caption(plan([scored("a"), scored("b")]), captioner, {"a": "known", "z": "unused"})
    assert [c.source_caption for c in found[:2]] == ["known", "known"]
    assert len(captioner.asked) == 1
    caption(plan([scored("a")]), captioner, {"a": ""})  # an empty caption is known as well
    assert len(captioner.asked) == 1


def test_captioner_and_rewriter_are_asked_in_batches() -> None:
    speaker = Speaker()
    found = caption(plan([scored(f"{i}") for i in range(130)]), speaker)
    list(stages.rewrite(found, speaker, class_names=CLASSES))
    assert speaker.batches == [64, 64, 2, 64, 64, 2]


def test_each_candidate_gets_a_rewrite_of_its_own_seed() -> None:
    found = rewrite(caption(plan([scored("a")]), Speaker(lambda *_: "brown")), "{} {}".format)
    assert [c.caption for c in found] == [f"brown {derive_seed(c.seed, 'rewrite')}" for c in found]
    assert found[0].prompt == f"A photo of cat, which is {found[0].caption}"
    assert found[0].caption != found[1].caption


@pytest.mark.parametrize(
    ("source_caption", "rewritten", "used", "prompt"),
    [
        ("brown", "a dog sled", "brown", "A photo of cat, which is brown"),
        ("brown", "  ", "brown", "A photo of cat, which is brown"),
        ("brown", "a cat, red", "a cat, red", "A photo of cat, which is a cat, red"),
        ("by a Dog_Sled", "a dog sled", "", "A photo of cat"),
        ("by a dog sled", "red", "red", "A photo of cat, which is red"),
        ("", "", "", "A photo of cat"),
    ],
)
def test_no_prompt_ever_asks_for_another_class(
    source_caption: str, rewritten: str, used: str, prompt: str
) -> None:
    (candidate,) = plan([scored("a")], rewrites=1)
    (found,) = rewrite([replace(candidate, source_caption=source_caption)], lambda *_: rewritten)
    assert (found.caption, found.prompt) == (used, prompt)


def test_the_order_of_the_candidates_is_kept_when_sources_are_mixed() -> None:
    mixed = plan([scored("a"), scored("b")])
    mixed = [mixed[2], mixed[0], mixed[3], mixed[1]]
    captioned = caption(mixed, Speaker())
    assert [c.id for c in captioned] == [c.id for c in mixed]
    assert [c.id for c in rewrite(captioned, "{} {}".format)] == [c.id for c in mixed]


def test_nothing_in_nothing_out() -> None:
    speaker = Speaker()
    assert plan([]) == caption([], speaker) == rewrite([], speaker.say) == []
    assert list(render([], 4)) == []
    assert speaker.batches == []


class Forgetful(Speaker):
    """Leaves out one result."""

    def caption(self, requests: Sequence[CaptionRequest]) -> list[str]:
        return super().caption(requests)[1:]

    def rewrite(self, requests: Sequence[RewriteRequest]) -> list[tuple[Rewrite, ...]]:
        return [texts[1:] for texts in super().rewrite(requests)]


def test_a_speaker_that_leaves_something_out_is_stopped() -> None:
    candidates = plan([scored("a"), scored("b")])
    with pytest.raises(GenerationError, match="captioner returned 1 results for 2 items"):
        caption(candidates, Forgetful())
    with pytest.raises(GenerationError, match="rewriter returned 1 results for 2 items"):
        list(stages.rewrite(candidates, Forgetful(), class_names=CLASSES))


class Painter:
    """An executor that answers with numbered images; every third one is refused or missing."""

    def __init__(self) -> None:
        self.tasks: list[list[RenderRequest]] = []

    def map(
        self, factory: Callable[[], ImageGenerator], tasks: Iterable[Sequence[RenderRequest]]
    ) -> Iterator[list[Rendered]]:
        numbers = count()
        for task in tasks:
            self.tasks.append(list(task))
            yield [self._answer(next(numbers)) for _ in task]

    def _answer(self, number: int) -> Rendered:
        image = Image.new("RGB", (2, 2), (number, 0, 0))
        return (
            Rendered(image=image),
            Rendered(image=image, rejected_by="black-image"),
            Rendered(image=None),
        )[number % 3]

    def release(self) -> None:
        return None


def no_generator() -> ImageGenerator:
    raise AssertionError("the executor of this test needs no generator")


def render(
    candidates: Sequence[Candidate], batch_size: int, executor: Painter | None = None
) -> list[list[RenderedCandidate]]:
    return list(
        stages.render(candidates, executor or Painter(), no_generator, image, batch_size=batch_size)
    )


def test_candidates_are_rendered_in_order_and_in_batches_with_verdicts() -> None:
    candidates = plan([scored("a"), scored("bb")])
    candidates[0] = replace(candidates[0], prompt="A photo of cat, which is brown")
    painter = Painter()
    batches = render(candidates, 3, painter)
    assert [len(batch) for batch in batches] == [3, 1]
    flat = [item for batch in batches for item in batch]
    assert [item.candidate.id for item in flat] == [c.id for c in candidates]
    assert [item.candidate.rejected_by for item in flat] == [None, "black-image", "no-image", None]
    assert [item.image is None for item in flat] == [False, False, True, False]
    requests = [request for task in painter.tasks for request in task]
    assert [r.prompt for r in requests] == [candidates[0].prompt, *["A photo of cat"] * 3]
    assert [r.seed for r in requests] == [c.seed for c in candidates]
    assert [r.source.getpixel((0, 0)) for r in requests] == [
        (1, 0, 0), (1, 0, 0), (2, 0, 0), (2, 0, 0),
    ]  # fmt: skip
    assert (requests[0].strength, requests[0].guidance_scale) == (0.6, 7.5)
    assert (requests[0].num_inference_steps, requests[0].negative_prompt) == (30, "blurry")


def test_sources_are_read_when_their_batch_is_due_not_before() -> None:
    read: list[str] = []

    def image_of(source: str) -> Image.Image:
        read.append(source)
        return image(source)

    batches = stages.render(
        plan([scored("a"), scored("b")], 1), Painter(), no_generator, image_of, batch_size=1
    )
    next(batches)
    assert read == ["a"]


def test_a_source_is_decoded_once_per_chunk() -> None:
    read: list[str] = []

    def image_of(source: str) -> Image.Image:
        read.append(source)
        return image(source)

    candidates = plan([scored("a"), scored("b")], 5)
    list(stages.render(candidates, Painter(), no_generator, image_of, batch_size=7))
    assert read == ["a", "b", "b"]  # b's five candidates are split between the two chunks


def test_a_generator_with_words_of_its_own_is_asked_in_them() -> None:
    captioned = caption(plan([scored("a"), scored("b", 1)], 1), Speaker(lambda *_: "brown"))
    found = stages.rewrite(
        captioned, Speaker(), class_names=CLASSES, class_words={"dog_sled": "sledge"}
    )
    prompts = {c.class_name: c.prompt or "" for c in found}
    assert prompts["dog_sled"].startswith("A photo of sledge, which is brown")
    assert prompts["cat"].startswith("A photo of cat, which is brown")
