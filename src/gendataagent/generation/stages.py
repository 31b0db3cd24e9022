"""plan -> caption -> rewrite -> render: from hard real images to new ones.

Uses only the protocols. Every step takes candidates and returns changed copies. Seeds depend on the
candidate alone, so order, batch size, workers and interruptions change no image.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from PIL import Image

from gendataagent.config import GenerationConfig
from gendataagent.core.errors import ConfigError, GenerationError
from gendataagent.core.progress import Progress, SilentProgress
from gendataagent.core.protocols import (
    Captioner,
    CaptionRequest,
    Executor,
    Feedback,
    ImageGenerator,
    PromptRewriter,
    Rendered,
    RenderRequest,
    Rewrite,
    RewriteRequest,
)
from gendataagent.core.records import (
    FROM_IMAGE,
    Candidate,
    RenderedCandidate,
    Scored,
    candidate_id,
    derive_seed,
    derive_seeds,
)
from gendataagent.generation.class_mentions import names_another_class
from gendataagent.generation.prompts import compose_prompt

Item = TypeVar("Item")

CAPTION_BATCH = 64
REWRITE_BATCH = 64

ImageOf = Callable[[str], Image.Image]
"""Returns the real image of a source id, RGB."""
FeedbackOf = Callable[[Candidate], Feedback | None]
"""Returns how the classifier steers a candidate; None = it does not."""


def plan(
    selected: Iterable[Scored],
    *,
    round_number: int,
    rewrites: int | Iterable[int],
    class_names: Sequence[str],
    settings: GenerationConfig,
    run_seed: int,
) -> Iterator[Candidate]:
    """Yield `rewrites` candidates for each selected image, hardest first; pure, no model.

    Args:
        rewrites: one number for all, or one for each selected image.
    """
    for_all, strengths = isinstance(rewrites, int), settings.drawn_strengths
    numbers = itertools.repeat(rewrites) if isinstance(rewrites, int) else rewrites
    for scored, number in zip(selected, numbers, strict=not for_all):
        variants = range(number)
        seeds = derive_seeds(run_seed, "candidate", round_number, scored.source_id, each=variants)
        for variant, seed in zip(variants, seeds, strict=True):
            yield Candidate(
                id=candidate_id(round_number, scored.source_id, variant),
                round=round_number,
                source_id=scored.source_id,
                label=scored.label,
                class_name=class_names[scored.label],
                variant=variant,
                seed=seed,
                strength=_drawn(strengths, seed),
                guidance_scale=settings.guidance,
                num_inference_steps=settings.steps,
                negative_prompt=settings.negative_prompt,
                start=settings.made_from,
                marginal_score=scored.score,
            )


def with_prompt_classes(
    planned: Iterable[Candidate], class_names: Sequence[str], settings: GenerationConfig
) -> Iterator[Candidate]:
    """Yield the candidates, each with the class that its prompt names and its soft label.

    Wang et al., CVPR 2024 (Diff-Mix): the prompt names another class than the source's, each
    equally likely, by the candidate's seed.

    Raises:
        ConfigError: there is no other class.
    """
    if settings.prompt_class == "own":
        yield from planned
        return
    if len(class_names) < 2:
        raise ConfigError(
            "generation.prompt_class = other needs a second class, and the data has one; set it to "
            "own"
        )
    for candidate in planned:
        drawn = derive_seed(candidate.seed, "prompt class") % (len(class_names) - 1)
        label = drawn + (drawn >= candidate.label)
        yield replace(
            candidate,
            label=label,
            class_name=class_names[label],
            source_class=candidate.class_name,
            label_share=candidate.strength**settings.soft_label_gamma,
        )


def _drawn(strengths: Sequence[float], seed: int) -> float:
    """Return one of the strengths, by the candidate's seed."""
    if len(strengths) == 1:
        return strengths[0]
    return strengths[derive_seed(seed, "strength") % len(strengths)]


def caption(
    candidates: Sequence[Candidate],
    captioner: Captioner,
    image_of: ImageOf,
    *,
    run_seed: int,
    known: Mapping[str, str],
    progress: Progress | None = None,
) -> Iterator[Candidate]:
    """Caption each source once in a run; return the candidates with `source_caption`.

    Args:
        known: source id -> caption, from earlier rounds.
    """
    class_of = {c.source_id: c.class_of_source for c in candidates}
    captions = {source: known[source] for source in class_of if source in known}
    missing = [source for source in class_of if source not in captions]
    with (progress or SilentProgress()).stage("caption", len(missing), "images") as stage:
        for batch in _batches(missing, CAPTION_BATCH):
            texts = captioner.caption(
                [
                    CaptionRequest(
                        image=image_of(source),
                        class_name=class_of[source],
                        seed=derive_seed(run_seed, "caption", source),
                    )
                    for source in batch
                ]
            )
            _check_count("captioner", len(texts), len(batch))
            captions.update(zip(batch, texts, strict=True))
            stage.advance(len(batch))
    return (replace(c, source_caption=captions[c.source_id]) for c in candidates)


def rewrite(
    candidates: Sequence[Candidate],
    rewriter: PromptRewriter,
    *,
    class_names: Sequence[str],
    class_words: Mapping[str, str] | None = None,
    contexts: Sequence[str] = (),
    known: Mapping[str, Rewrite] | None = None,
    on_batch: Callable[[Mapping[str, Rewrite]], None] | None = None,
    batch_size: int = REWRITE_BATCH,
    progress: Progress | None = None,
) -> Iterator[Candidate]:
    """Yield the candidates with `caption`, `prompt` and who wrote them, as they are rewritten.

    A rewrite that is empty or names another class is replaced by the source's own caption, and that
    by the class name alone, so that no prompt asks for the wrong class.

    Args:
        candidates: those of one source and class that follow each other are asked for together.
        class_words: class name -> the generator's word for it, where it has its own.
        contexts: captions of all images of the round, where the rewriter draws from them.
        known: candidate id -> rewrite, from an interrupted attempt.
        on_batch: called with each batch's new rewrites, to save them.
        batch_size: sources per batch; an interruption loses at most one batch.
    """
    known = known or {}
    done = min(len(known), len(candidates))
    with (progress or SilentProgress()).stage(
        "rewrite", len(candidates), "captions", done
    ) as stage:
        groups = (list(group) for _, group in itertools.groupby(candidates, _source_and_class))
        for batch in _batches(groups, batch_size):
            missing = [group for group in batch if any(c.id not in known for c in group)]
            new = _ask(rewriter, missing, class_names, contexts)
            if new and on_batch is not None:
                on_batch(new)
            stage.advance(len(new))
            for c in itertools.chain.from_iterable(batch):
                answer = new[c.id] if c.id in new else known[c.id]
                yield _with_prompt(c, answer, class_names, class_words or {})


def _source_and_class(candidate: Candidate) -> tuple[str, str]:
    return candidate.source_id, candidate.class_name


def _ask(
    rewriter: PromptRewriter,
    groups: Sequence[Sequence[Candidate]],
    class_names: Sequence[str],
    contexts: Sequence[str],
) -> dict[str, Rewrite]:
    """Return candidate id -> rewrite of the candidates of several sources."""
    if not groups:
        return {}
    answers = rewriter.rewrite([_rewrite_request(group, class_names, contexts) for group in groups])
    _check_count("rewriter", len(answers), len(groups))
    new: dict[str, Rewrite] = {}
    for group, answer in zip(groups, answers, strict=True):
        _check_count("rewriter", len(answer), len(group))
        new.update((c.id, text) for c, text in zip(group, answer, strict=True))
    return new


def _rewrite_request(
    group: Sequence[Candidate], class_names: Sequence[str], contexts: Sequence[str]
) -> RewriteRequest:
    return RewriteRequest(
        caption=group[0].source_caption or "",
        class_name=group[0].class_name,
        seeds=tuple(derive_seed(candidate.seed, "rewrite") for candidate in group),
        class_names=tuple(class_names),
        contexts=contexts,
    )


def _with_prompt(
    candidate: Candidate,
    rewrite: Rewrite,
    class_names: Sequence[str],
    class_words: Mapping[str, str],
) -> Candidate:
    usable = [
        words
        for words in (rewrite.text, candidate.source_caption or "")
        if words.strip() and not names_another_class(words, candidate.class_name, class_names)
    ]
    words = usable[0] if usable else ""
    return replace(
        candidate,
        caption=words,
        prompt=compose_prompt(class_words.get(candidate.class_name, candidate.class_name), words),
        rewritten_by=rewrite.by or None,
    )


def render(
    candidates: Iterable[Candidate],
    executor: Executor,
    factory: Callable[[], ImageGenerator],
    image_of: ImageOf,
    *,
    batch_size: int,
    feedback_of: FeedbackOf | None = None,
) -> Iterator[list[RenderedCandidate]]:
    """Yield the candidates with their images, batch by batch, in order.

    Args:
        feedback_of: how each candidate is steered; None = none is.
    """
    sent: deque[list[Candidate]] = deque()

    def tasks() -> Iterator[list[RenderRequest]]:
        for batch in _batches(candidates, batch_size):
            sent.append(batch)
            yield _render_requests(batch, image_of, feedback_of)

    for results in executor.map(factory, tasks()):
        yield [
            _with_rejection(candidate, rendered)
            for candidate, rendered in zip(sent.popleft(), results, strict=True)
        ]
    if sent:
        raise GenerationError(f"the executor ended without the results of {len(sent)} tasks")


def _render_requests(
    candidates: Sequence[Candidate], image_of: ImageOf, feedback_of: FeedbackOf | None
) -> list[RenderRequest]:
    """Return one request per candidate; a source they share is decoded once."""
    sources = {
        source: image_of(source) for source in dict.fromkeys(c.source_id for c in candidates)
    }
    return [
        RenderRequest(
            source=sources[candidate.source_id],
            prompt=candidate.prompt or compose_prompt(candidate.class_name, ""),
            negative_prompt=candidate.negative_prompt,
            seed=candidate.seed,
            strength=candidate.strength,
            guidance_scale=candidate.guidance_scale,
            num_inference_steps=candidate.num_inference_steps,
            feedback=feedback_of(candidate) if feedback_of else None,
            variant=candidate.variant,
            from_text=candidate.start != FROM_IMAGE,
            class_name=candidate.class_name,
        )
        for candidate in candidates
    ]


def _with_rejection(candidate: Candidate, rendered: Rendered) -> RenderedCandidate:
    reason = rendered.rejected_by or (None if rendered.image is not None else "no-image")
    return RenderedCandidate(replace(candidate, rejected_by=reason), rendered.image, rendered.png)


def _check_count(who: str, got: int, expected: int) -> None:
    if got != expected:
        raise GenerationError(
            f"the {who} returned {got} results for {expected} items; it must return one per item, "
            "in order"
        )


def _batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch
