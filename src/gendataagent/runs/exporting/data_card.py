"""The card (README.md) of an exported data set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from gendataagent.agent.by_hand.rules import HandCounts
from gendataagent.agent.rejections import REJECTIONS
from gendataagent.core.records import FROM_NOISE, RETRIEVAL, WITH_EDGES, RoundRecord
from gendataagent.data.index import SPLITS
from gendataagent.data.synthetic_marks import SYNTHETIC
from gendataagent.runs.exporting.data_formats import DataFormat
from gendataagent.runs.exporting.markdown import bullets, card, table, text
from gendataagent.runs.exporting.place import MADE_BY
from gendataagent.runs.exporting.rows import REAL, Row
from gendataagent.runs.exporting.run_facts import RunFacts

_CLASSES_SHOWN = 200
_COLUMNS = (
    "`label` (or `class_name`): the class by name",
    "`source`: `real` or `synthetic`; `id`: of the image in the original data or in the run",
    "for synthetic images: `source_id` (the real image it was made from), `source_caption`, "
    "`prompt`, `generator`, `seed`, `strength`, `guidance_scale` and what else it was made with; "
    "`start` is `noise` where it was made from text alone, and its source gave class and caption",
    "`source_class`: class of the source where that is not `label`; the label is then soft: "
    "`label_share` of it is `label`, the rest `source_class`",
)


def data_card(
    to: str,
    form: DataFormat,
    rows: Sequence[Row],
    class_names: Sequence[str],
    facts: RunFacts,
    rounds: Sequence[RoundRecord],
    by_hand: HandCounts,
    figures: Sequence[str],
) -> str:
    """Return the card of a data set.

    Args:
        rounds: the finished rounds of the run.
        by_hand: what decisions by hand changed in them.
        figures: sentences on leakage and memorisation.
    """
    sources = Counter(row.values["source"] for row in rows)
    splits = [split for split in SPLITS if any(row.split == split for row in rows)]
    front = {
        "task_categories": ["image-classification"],
        "tags": ["gendataagent", *(["synthetic"] if sources[SYNTHETIC] else [])],
        "configs": _configs(form, splits),
    }
    about = [
        f"{sources[REAL]:,} real and {sources[SYNTHETIC]:,} synthetic images of "
        f"{len(class_names)} classes; format: {to}; data: {text(facts.data)}.",
        "Real images have their original pixels, without EXIF data, comments or previews.",
    ]
    if sources[SYNTHETIC] and facts.config.generation.generator == RETRIEVAL:
        about.append(
            "Images with source `synthetic` are real ones that were found in a folder without "
            "labels; their label is that of the image they are like. Each PNG names its file."
        )
    elif sources[SYNTHETIC]:
        about.append(
            "Synthetic images are in the train split alone. Each PNG says inside that it is "
            "synthetic, by which generator, prompt and run. Do not test on them."
        )
    if facts.run:
        about.append(f"Run: `{facts.run}`, seed {facts.config.seed}.")
    made = sum(record.made for record in rounds)
    parts = [
        ("", bullets(about)),
        ("Read it", f"```python\n{form.reads}\n```"),
        ("Images", _counts(rows, class_names, splits)),
        ("Columns", bullets(_COLUMNS)),
        ("How the synthetic images were made", _making(facts, rounds, by_hand) if made else ""),
        ("Copies", bullets(text(line) for line in figures)),
        ("Terms", facts.terms()),
    ]
    return card(front, f"Labelled images, exported by {MADE_BY}", parts)


def _configs(form: DataFormat, splits: Sequence[str]) -> list[dict[str, object]]:
    if form.files is None:
        return []
    files = [{"split": split, "path": form.files(split)} for split in splits]
    return [{"config_name": "default", "data_files": files}]


def _counts(rows: Sequence[Row], class_names: Sequence[str], splits: Sequence[str]) -> str:
    counts = Counter((row.label, row.split, row.values["source"]) for row in rows)
    kinds = [
        (split, source)
        for split in splits
        for source in (REAL, SYNTHETIC)
        if any(counts[label, split, source] for label in range(len(class_names)))
    ]
    lines = [
        [name, *(f"{counts[label, split, source]:,}" for split, source in kinds)]
        for label, name in enumerate(class_names[:_CLASSES_SHOWN])
    ]
    found = table(["class", *(f"{split}, {source}" for split, source in kinds)], lines)
    more = len(class_names) - _CLASSES_SHOWN
    return f"{found}\n\nand {more} more classes" if more > 0 else found


def _made_from(facts: RunFacts) -> str:
    settings = facts.config
    source = "training image"
    if settings.selection.by != "uniform":
        source = "training image that the classifier found hard at that moment"
    if settings.generation.generator == RETRIEVAL:
        return f"of one of the images most like a {source}"
    made_from = settings.generation.made_from
    if made_from == FROM_NOISE:
        return f"from text alone, of the class of a {source}"
    other = ", by the name of another class" * (settings.generation.prompt_class != "own")
    if made_from == WITH_EDGES:
        return f"from text along the edges of a {source}{other}"
    edges = " along the edges" * (settings.generation.condition == WITH_EDGES)
    return f"by image-to-image{edges} from a {source}{other}"


def _making(facts: RunFacts, rounds: Sequence[RoundRecord], by_hand: HandCounts) -> str:
    rejected: Counter[str] = Counter()
    for record in rounds:
        rejected.update(record.rejected)
    lines = [
        f"{sum(record.made for record in rounds):,} images in {len(rounds)} rounds, each made "
        f"{_made_from(facts)}; "
        f"{sum(record.kept for record in rounds):,} kept.",
    ]
    if rejected:
        reasons = (
            f"{text(REJECTIONS.get(reason, reason))}: {count:,}"
            for reason, count in rejected.most_common()
        )
        lines.append(f"Not kept: {'; '.join(reasons)}.")
    if by_hand:
        lines.append(f"By hand, after that: {by_hand.words}.")
    if facts.result is not None and facts.result.guard is not None:
        lines.append(text(facts.result.guard.sentence))
    models = facts.models()
    return f"{bullets(lines)}\n\n{models}" if models else bullets(lines)
