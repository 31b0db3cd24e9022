"""Measure how a real language model rewrites captions: how many replies are valid, and its speed.

    python scripts/measure_rewriting.py --model FILE.gguf --captions 60 --to docs/results/NAME.md

Half of the captions are of bundled images by the visible-attributes captioner, half are sentences
in BLIP's style about pets, birds, flowers and food. `--model` is a folder, a GGUF file or a hub id.
Processor seconds are reported next to wall-clock seconds, since other work may run meanwhile.
"""

from __future__ import annotations

import argparse
import datetime
import json
import random
import shlex
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from gendataagent.config import RunConfig
from gendataagent.core.protocols import CaptionRequest, Rewrite, RewriteRequest
from gendataagent.core.records import derive_seed
from gendataagent.data import load_data
from gendataagent.generation.language.building import build_chat
from gendataagent.generation.language.conversation import ChatModel, Conversation, Message
from gendataagent.generation.language.parsing import replies_of
from gendataagent.generation.language.rewriter import TRIES, LanguageModelRewriter
from gendataagent.generation.language.validator import RewriteValidator
from gendataagent.generation.tiny.captioner import AttributeCaptioner
from gendataagent.generation.tiny.rewriter import AttributeRewriter

Figures = dict[str, Any]

NATURAL = {
    "beagle": (
        "a small brown and white dog sitting on grass",
        "a dog laying on a couch looking at the camera",
        "a dog standing on a sidewalk with a leash",
    ),
    "samoyed": ("a white dog standing in the snow", "a large white dog sitting on a wooden floor"),
    "siamese cat": (
        "a cat with blue eyes sitting on a bed",
        "a cat laying on a blanket next to a window",
    ),
    "maine coon": ("a fluffy cat sitting on a chair", "a close up of a cat with long fur"),
    "cardinal": (
        "a red bird perched on a tree branch",
        "a bird sitting on a bird feeder in the snow",
    ),
    "mallard": ("a duck swimming in a pond", "two ducks standing on the shore of a lake"),
    "blue jay": ("a blue and white bird standing on a fence", "a bird eating seeds from a tray"),
    "herring gull": ("a white bird flying over the ocean", "a bird standing on a rock by water"),
    "sunflower": (
        "a yellow flower with a bee on it",
        "a field of yellow flowers with a blue sky",
    ),
    "rose": ("a pink flower with green leaves in a garden", "a close up of a red flower with dew"),
    "water lily": ("a white flower floating on a pond", "a purple flower on a pond"),
    "tulip": ("a group of red flowers in a field", "a vase of flowers on a table"),
    "pizza": ("a plate of food with cheese and tomatoes", "a slice of food on a white plate"),
    "sushi": ("a wooden tray of food with chopsticks", "a plate of food with rice and fish"),
    "pancakes": ("a stack of food with butter and syrup on a plate",),
}  # fmt: skip


@dataclass
class RecordingChat:
    """Passes conversations on and keeps the answers."""

    chat: ChatModel
    answers: list[str] = field(default_factory=list)

    @property
    def notes(self) -> Sequence[str]:
        return self.chat.notes

    @property
    def name(self) -> str:
        return self.chat.name

    @property
    def revision(self) -> str:
        return self.chat.revision

    def check(self) -> None:
        self.chat.check()

    def release(self) -> None:
        self.chat.release()

    def complete(self, conversations: Sequence[Conversation], seeds: Sequence[int]) -> list[str]:
        start = time.monotonic()
        answers = self.chat.complete(conversations, seeds)
        took_s = time.monotonic() - start
        print(f"{len(answers)} answers in {took_s:.0f} s", file=sys.stderr, flush=True)
        self.answers.extend(answers)
        return answers


@dataclass(frozen=True, kw_only=True)
class RecordingValidator(RewriteValidator):
    """Keeps what was refused: reason, caption, reply."""

    refused: list[tuple[str, str, str]] = field(default_factory=list)

    def refusal(self, reply: str, **about: Any) -> str | None:
        reason = RewriteValidator.refusal(self, reply, **about)
        if reason is not None:
            self.refused.append((reason, about["caption"], reply))
        return reason


def main() -> None:
    arguments = _parse()
    torch.set_num_threads(arguments.threads)
    config = RunConfig.from_dict(
        {
            "prompting": {
                "rewriter": str(arguments.model),
                "rewrites": arguments.rewrites,
                "batch_size": arguments.batch,
            }
        }
    )
    settings = config.prompting
    chat = RecordingChat(build_chat(config, "cpu"))
    chat.check()
    validator = RecordingValidator()
    rewriter = LanguageModelRewriter(chat, validator, template=AttributeRewriter())
    kinds = requests_by_kind(arguments.captions, arguments.rewrites)
    start_s = time.monotonic()
    chat.chat.complete([Conversation(messages=(Message("user", "Hi"),), tokens_at_most=1)], [0])
    loading_s = time.monotonic() - start_s
    start_s, start_cpu_s = time.monotonic(), time.process_time()
    requests = [request for group in kinds.values() for request in group]
    answers = iter(rewriter.rewrite(requests))  # all at once, so that batches are full
    outcomes = {
        kind: [(request, next(answers)) for request in group] for kind, group in kinds.items()
    }
    wall_s, cpu_s = time.monotonic() - start_s, time.process_time() - start_cpu_s
    tokens = count_tokens(arguments.model, chat.answers)
    figures = {
        "command": "python " + shlex.join([sys.argv[0], *arguments.shown]),
        "date": datetime.date.today().isoformat(),
        "machine": arguments.machine,
        "model": chat.name,
        "revision": chat.revision,
        "torch": torch.__version__,
        "threads": arguments.threads,
        "batch_size": arguments.batch,
        "temperature": settings.rewrite_temperature,
        "top_p": settings.rewrite_top_p,
        "tries": TRIES,
        "loading_s": round(loading_s, 1),
        "conversations": len(chat.answers),
        "replies": sum(len(replies_of(answer)) for answer in chat.answers),
        "by_kind": {kind: counted(pairs) for kind, pairs in outcomes.items()},
        "all": counted([pair for pairs in outcomes.values() for pair in pairs]),
        "speed": speed(kinds, arguments.rewrites, tokens, wall_s, cpu_s),
        "samples": samples(outcomes, validator.refused),
    }
    print(json.dumps(figures, indent=1, ensure_ascii=False))
    if arguments.to:
        arguments.to.parent.mkdir(parents=True, exist_ok=True)
        arguments.to.write_text(page(figures), encoding="utf-8")


def requests_by_kind(captions: int, rewrites: int) -> dict[str, list[RewriteRequest]]:
    """Return half of the requests on bundled images, half on sentences."""
    images = load_data(RunConfig().data, seed=0).validation
    rng = random.Random(0)
    chosen = rng.sample(range(len(images)), captions - captions // 2)
    questions = [
        CaptionRequest(
            image=images.image(i), class_name=images.class_names[images.labels[i]], seed=0
        )
        for i in chosen
    ]
    attributes = zip(questions, AttributeCaptioner().caption(questions), strict=True)
    sentences = [(name, text) for name, texts in NATURAL.items() for text in texts]
    return {
        "visible attributes": [
            _request(text, question.class_name, tuple(images.class_names), rewrites)
            for question, text in attributes
        ],
        "sentences": [
            _request(text, name, tuple(NATURAL), rewrites)
            for name, text in sentences[: captions // 2]
        ],
    }


def _request(caption: str, name: str, names: tuple[str, ...], rewrites: int) -> RewriteRequest:
    seeds = tuple(derive_seed(0, "measure", name, caption, n) for n in range(rewrites))
    return RewriteRequest(caption=caption, class_name=name, class_names=names, seeds=seeds)


def counted(pairs: Sequence[tuple[RewriteRequest, tuple[Rewrite, ...]]]) -> Figures:
    """Return the outcomes of the rewrites, counted."""
    rewrites = [rewrite for _, answer in pairs for rewrite in answer]
    by_model = [rewrite for rewrite in rewrites if not rewrite.by]
    return {
        "captions": len(pairs),
        "rewrites": len(rewrites),
        "taken at the first try": sum(not rewrite.refusals for rewrite in by_model),
        "taken after refusals": sum(bool(rewrite.refusals) for rewrite in by_model),
        "replaced by the template": len(rewrites) - len(by_model),
        "refusals": dict(Counter(r for one in rewrites for r in one.refusals).most_common()),
    }


def count_tokens(model: Path, answers: Sequence[str]) -> int:
    """Return the number of tokens of all answers."""
    from transformers import AutoTokenizer

    file = {"gguf_file": model.name} if model.suffix == ".gguf" else {}
    tokenizer = AutoTokenizer.from_pretrained(str(model.parent if file else model), **file)
    return sum(len(ids) for ids in tokenizer(list(answers))["input_ids"])


def speed(
    kinds: dict[str, list[RewriteRequest]], rewrites: int, tokens: int, wall_s: float, cpu_s: float
) -> Figures:
    """Return captions, rewrites and tokens per wall-clock and per processor second."""
    captions = sum(map(len, kinds.values()))
    done = {"captions": captions, "rewrites": captions * rewrites, "tokens": tokens}
    return {
        "clock_s": round(wall_s, 1),
        "processor_s": round(cpu_s, 1),
        **{f"{what} a clock second": round(n / wall_s, 3) for what, n in done.items()},
        **{f"{what} a processor second": round(n / cpu_s, 3) for what, n in done.items()},
    }


def samples(
    outcomes: dict[str, list[tuple[RewriteRequest, tuple[Rewrite, ...]]]],
    refused: Sequence[tuple[str, str, str]],
) -> Figures:
    """Return some accepted rewrites, and two refused replies of each reason, drawn by seed."""
    rng = random.Random(0)
    taken = {
        kind: [
            (request.caption, rewrite.text)
            for request, answer in pairs
            for rewrite in answer
            if not rewrite.by
        ]
        for kind, pairs in outcomes.items()
    }
    by_reason: dict[str, list[tuple[str, str, str]]] = {}
    for one in refused:
        by_reason.setdefault(one[0], []).append(one)
    return {
        "taken": [one for pairs in taken.values() for one in rng.sample(pairs, min(8, len(pairs)))],
        "refused": [
            one for group in by_reason.values() for one in rng.sample(group, min(2, len(group)))
        ],
    }


def page(figures: Figures) -> str:
    """Return the figures as a Markdown page."""
    kinds: dict[str, Figures] = {**figures["by_kind"], "all": figures["all"]}
    rows = [key for key in figures["all"] if key != "refusals"]
    lines = [
        f"# Rewriting with {figures['model']}",
        "",
        f"Written by `{figures['command']}` on {figures['date']}; {figures['machine']}, "
        f"{figures['threads']} thread, torch {figures['torch']}, float32, batch "
        f"{figures['batch_size']}, temperature {figures['temperature']:g}, top-p "
        f"{figures['top_p']:g}, {figures['tries']} tries.",
        "",
        *_table(["", *kinds], [[row, *(str(kinds[k][row]) for k in kinds)] for row in rows]),
        "",
        f"{figures['conversations']} conversations were answered with {figures['replies']} "
        f"replies. Loading and a first token took "
        f"{figures['loading_s']:g} s, which the speed below leaves out.",
        "",
        "## Why replies were refused",
        "",
        *_table(
            ["reason", *kinds],
            [
                [reason, *(str(kinds[k]["refusals"].get(reason, 0)) for k in kinds)]
                for reason in figures["all"]["refusals"]
            ],
        ),
        "",
        "## Speed",
        "",
        *_table(["", ""], [[key, f"{value:g}"] for key, value in figures["speed"].items()]),
        "",
        "## Samples that were taken",
        "",
        *_table(["caption", "rewrite"], figures["samples"]["taken"]),
        "",
        "## Samples that were refused",
        "",
        *_table(["reason", "caption", "reply"], figures["samples"]["refused"]),
        "",
    ]
    return "\n".join(lines)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    cells = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    return [f"| {' | '.join(row)} |" for row in [list(head), ["---"] * len(head), *cells]]


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--captions", type=int, default=60)
    parser.add_argument("--rewrites", type=int, default=3)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--machine", default="unnamed machine")
    parser.add_argument("--to", type=Path, help="Markdown page to write")
    arguments = parser.parse_args()
    # the model's name without the folders of this machine
    arguments.shown = [
        Path(a).name if a == str(arguments.model) else a for a in sys.argv[1:]
    ]  # fmt: skip
    return arguments


if __name__ == "__main__":
    main()
