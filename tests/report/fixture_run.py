"""Builds run folders like those of `gendataagent run`, with numbers that tests can check.

`python -m tests.report.fixture_run OUT [--large]` writes one and its report, to look at.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw

from gendataagent.agent.feedback.hardness import Hardness
from gendataagent.agent.feedback.opinion import Opinion, RoundOpinion, SecondOpinion
from gendataagent.agent.feedback.record import UNTRAINED, FeedbackRecord
from gendataagent.agent.feedback.search import MATCHED, Probe
from gendataagent.config import RunConfig
from gendataagent.config.paths import settings_hash
from gendataagent.core.files import write_json, write_jsonl
from gendataagent.core.record_table import RecordTable
from gendataagent.core.records import (
    Candidate,
    EpochMetrics,
    Evaluation,
    ModelDescription,
    RoundRecord,
    RunManifest,
    Scored,
    candidate_id,
    derive_seed,
)
from gendataagent.core.run_folder import SELECTED_FILE, RunFolder
from gendataagent.core.seals import write_mark
from gendataagent.data import LabelledImages
from gendataagent.report import write_report
from gendataagent.runs.mistakes import write_mistakes

PLAIN_NAMES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
NASTY = '<script>alert("x")</script>\'" onerror=alert(1) x="&amp;'
NASTY_NAMES = (NASTY, "Berner Sennenhund é", "a\u202eb", "' onmouseover='x", "dog")


def build_run(
    folder: Path,
    *,
    class_names: Sequence[str] = PLAIN_NAMES,
    rounds: int = 3,
    epochs: int = 20,
    sources: int = 12,
    rewrites: int = 5,
    side_px: int = 32,
    finished: bool = True,
    agent: bool = True,
    baseline: bool = True,
    feedback: bool = False,
    sealed: bool = True,
    quarantined: Sequence[tuple[str, str]] = (),
    notes: Sequence[str] = ("The bundled generator is for trying out, not for real use.",),
) -> Path:
    """Write a run folder and return it; the same arguments write the same files.

    Args:
        sealed: whether marks list hashes; without them a test can change what the page shows.
    """
    draw = random.Random(f"{folder.name}-{agent}")
    _write_base(folder, class_names, rounds, epochs, rewrites, agent, quarantined, notes)
    gain = 0.03 if agent else 0.0
    write_jsonl(
        folder / "metrics.jsonl",
        [_epoch(e, epochs, gain, draw).to_json()
         for e in range(1, (epochs if finished else epochs // 2) + 1)],
    )  # fmt: skip
    if agent:
        for number in range(rounds):
            _write_round(folder, number, class_names, sources, rewrites, side_px, draw,
                         epoch=(number + 1) * epochs // (rounds + 1))  # fmt: skip
        if feedback:
            _write_feedback(folder, rounds, class_names, side_px, draw)
        if not finished:
            write_selected(folder / f"rounds/{rounds:03d}", [])
    if finished:
        evaluations = {
            split: evaluation(split, class_names, base + gain, draw).to_json()
            for split, base in (("train", 0.86), ("validation", 0.69), ("test", 0.68))
        }
        write_json(folder / "evaluation.json", evaluations)
        write_jsonl(folder / "test_predictions.jsonl", predictions(evaluations["test"]))
        write_json(folder / "timing.json", {"train": 96.5, "evaluate": 4.25})
    if baseline and agent:
        build_run(
            folder / "baseline",
            class_names=class_names,
            epochs=epochs,
            agent=False,
            notes=(),
            sealed=sealed,
        )
    if finished and agent:
        write_mistakes(RunFolder(folder), _test_images(class_names, side_px))
    for number in range(rounds if agent else 0):
        if sealed:
            RunFolder(folder).mark_round_done(number)
        else:
            write_mark(folder / f"rounds/{number:03d}/DONE", folder, [])
    if finished and sealed:
        RunFolder(folder).mark_done()
    elif finished:
        write_mark(folder / "DONE", folder, [])
    return folder


def _write_base(
    folder: Path,
    class_names: Sequence[str],
    rounds: int,
    epochs: int,
    rewrites: int,
    agent: bool,
    quarantined: Sequence[tuple[str, str]],
    notes: Sequence[str],
) -> None:
    """Write config, manifest, splits and quarantine."""
    folder.mkdir(parents=True, exist_ok=True)
    config = RunConfig.from_dict(
        {
            "training": {"epochs": epochs},
            "agent": {"enabled": agent, "rounds": max(rounds, 1)},
            "prompting": {"rewrites": rewrites},
        }
    )
    (folder / "config.toml").write_text(config.to_toml(), encoding="utf-8")
    splits = [
        {"split": split, "id": f"{split}-{label}-{i}", "class": name, "label": label}
        for label, name in enumerate(class_names)
        for split, images in (("train", 30 + label), ("validation", 8), ("test", 10))
        for i in range(images)
    ]
    write_jsonl(folder / "data/splits.jsonl", splits)
    counted = [str(row["split"]) for row in splits]
    write_jsonl(
        folder / "data/quarantine.jsonl", [{"name": n, "reason": r} for n, r in quarantined]
    )
    manifest = RunManifest(
        created="2026-01-02T03:04:05+00:00",
        seed=0,
        config_hash=settings_hash(config),
        data_fingerprint="0123456789abcdef",
        class_names=tuple(class_names),
        images_per_split=_counted(counted),
        quarantined=len(quarantined),
        captioner=ModelDescription(name="visible-attributes") if agent else None,
        rewriter=ModelDescription(name="visible-attributes") if agent else None,
        generator=ModelDescription(name="tiny-sd", revision="9f8e7d6c5b4a") if agent else None,
        environment={"python": "3.11.9", "torch": "2.6.0", "device": "cpu"},
        notes=tuple(notes),
    )
    write_json(folder / "manifest.json", manifest.to_json())


def _epoch(epoch: int, epochs: int, gain: float, draw: random.Random) -> EpochMetrics:
    progress = 1 - 2.0 ** (-5 * epoch / epochs)
    return EpochMetrics(
        epoch=epoch,
        loss=2.3 * (1 - 0.8 * progress) + draw.uniform(0, 0.05),
        learning_rate=0.1,
        optimizer_steps=40,
        real_images=300,
        synthetic_images=45 if gain else 0,
        seconds=4.8,
        train_accuracy=0.1 + 0.76 * progress + draw.uniform(-0.01, 0.01),
        validation_accuracy=0.1 + (0.6 + gain) * progress + draw.uniform(-0.02, 0.02),
    )


def evaluation(
    split: str, class_names: Sequence[str], mean: float, draw: random.Random, images: int = 100
) -> Evaluation:
    """Return an evaluation consistent with its confusion matrix."""
    n = len(class_names)
    confusion = [[0] * n for _ in range(n)]
    for true in range(n):
        share = min(max(mean + 0.15 * ((true * 5) % 7 / 3 - 1) + draw.uniform(-0.06, 0.06), 0), 1)
        for _ in range(images):
            right = draw.random() < share or n == 1
            guess = true if right else draw.choice([c for c in range(n) if c != true])
            confusion[true][guess] += 1
    per_class = {name: confusion[i][i] / images for i, name in enumerate(class_names)}
    worst = min(per_class, key=lambda name: per_class[name])
    return Evaluation(
        split=split,
        images=images * n,
        top1=sum(per_class.values()) / n,
        per_class=per_class,
        worst_class=worst,
        worst_class_accuracy=per_class[worst],
        worst_case_disparity=per_class[worst] / max(per_class.values()),
        loss=1.02,
        ece=0.0731,
        confusion=tuple(map(tuple, confusion)),
    )


def predictions(test: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of test_predictions.jsonl that a confusion matrix stands for."""
    return [
        {"id": f"test-{true}-{number}", "label": true, "predicted": said}
        for true, row in enumerate(test["confusion"])
        for number, said in enumerate(said for said, n in enumerate(row) for _ in range(n))
    ]


def _write_round(
    folder: Path,
    number: int,
    class_names: Sequence[str],
    sources: int,
    rewrites: int,
    side_px: int,
    draw: random.Random,
    *,
    epoch: int,
) -> None:
    """Write one finished round: selection, source images, pool and record."""
    selected = sorted(
        (
            Scored(source_id=f"train-{i}", label=i % len(class_names), score=draw.random() ** 3)
            for i in range(sources)
        ),
        key=lambda scored: scored.score,
    )
    round_folder, pool = folder / f"rounds/{number:03d}", folder / f"pool/{number:03d}"
    write_selected(round_folder, selected)
    candidates = [
        _candidate(number, scored, class_names, variant, draw)
        for scored in selected
        for variant in range(rewrites)
    ]
    (round_folder / "sources").mkdir()
    pool.mkdir(parents=True)
    for candidate in candidates:
        name = candidate.id.split("-")[1]
        if candidate.variant == 0:
            _save(_image(side_px, candidate.label, draw), round_folder / f"sources/{name}.png")
        if candidate.rejected_by != "black-image":
            _save(_image(side_px, candidate.label, draw), pool / candidate.file_name)
    rows = [
        {
            **candidate.to_json(),
            "file_name": "" if candidate.rejected_by == "black-image" else candidate.file_name,
            "kept": candidate.kept,
        }
        for candidate in candidates
    ]
    pq.write_table(pa.Table.from_pylist(rows), pool / "metadata.parquet")
    with (round_folder / "judged.parquet").open("wb") as stream:
        RecordTable.of(Candidate, candidates).write(stream)
    rejected = _counted(c.rejected_by for c in candidates if c.rejected_by)
    record = RoundRecord(
        round=number,
        epoch=epoch,
        selected=len(selected),
        made=len(candidates),
        kept=sum(c.kept for c in candidates),
        rejected=rejected,
        seconds={"select": 0.8, "caption": 0.2, "rewrite": 0.1, "render": 31.5, "filter": 2.4},
        notes=("Too few snapshots for VoG, every image was kept.",) if number == 0 else (),
    )
    write_json(round_folder / "record.json", record.to_json())


def write_selected(round_folder: Path, selected: Sequence[Scored]) -> None:
    """Write the selected images of a round."""
    round_folder.mkdir(parents=True, exist_ok=True)
    with (round_folder / SELECTED_FILE).open("wb") as stream:
        RecordTable.of(Scored, selected).write(stream)


def _write_feedback(
    folder: Path, rounds: int, class_names: Sequence[str], side_px: int, draw: random.Random
) -> None:
    """Write the feedback of each round, none in the first, and the baseline's opinion of it."""
    opinions = []
    for number in range(rounds):
        path = folder / f"rounds/{number:03d}"
        rows = pq.read_table(folder / f"pool/{number:03d}/metadata.parquet").to_pylist()
        probes = [row for row in rows if row["file_name"]][:12]
        record = FeedbackRecord(criterion="none", scale=0.0, reason=UNTRAINED)
        if number:
            labels = tuple(row["label"] for row in probes)
            measured = [hardness(labels, mean, draw) for mean in (0.3, 0.6, 0.35)]
            record = FeedbackRecord(
                criterion="entropy",
                scale=0.0625,
                reason=MATCHED,
                guide="0" * 64,
                target=0.34,
                floor=0.712,
                probes=(Probe(0.0, 0.61, 0.83), Probe(0.125, 0.2, 0.7), Probe(0.0625, 0.35, 0.79)),
                candidates=tuple(row["id"] for row in probes),
                sources=measured[0],
                plain=measured[1],
                guided=measured[2],
            )
            (path / "plain").mkdir()
            for row in probes:
                _save(_image(side_px, row["label"], draw), path / "plain" / row["file_name"])
            three = [Opinion(p_true=p, recognised=p + 0.2) for p in (0.63, 0.57, 0.46)]
            opinions.append(
                RoundOpinion(
                    round=number, images=len(probes), sources=three[0], plain=three[1],
                    guided=three[2],
                )
            )  # fmt: skip
        write_json(path / "feedback.json", record.to_json())
    write_json(folder / "second_opinion.json", SecondOpinion(rounds=tuple(opinions)).to_json())


def hardness(labels: Sequence[int], mean: float, draw: random.Random) -> Hardness:
    """Return the hardness of images with p(y) around a mean."""
    p_true = tuple(round(mean + draw.uniform(-0.2, 0.2), 6) for _ in labels)
    return Hardness(
        p_true=p_true,
        entropy=tuple(round(2 * (1 - p), 6) for p in p_true),
        recognised=tuple(p > 0.3 for p in p_true),
        labels=tuple(labels),
    )


def _candidate(
    number: int, scored: Scored, class_names: Sequence[str], variant: int, draw: random.Random
) -> Candidate:
    class_name = class_names[scored.label]
    place = ("on green grass", "in a dark room", "at the sea", "on a street", "in the snow")
    caption = f"brown and white, {place[0]}, seen from the side"
    rewritten = f"brown and white, {place[variant % 5]}, seen from the front"
    vog = draw.uniform(0.001, 0.02) if number else None
    rejected = "vog" if vog is not None and vog < 0.006 else None
    return Candidate(
        id=candidate_id(number, scored.source_id, variant),
        round=number,
        source_id=scored.source_id,
        label=scored.label,
        class_name=class_name,
        variant=variant,
        seed=derive_seed(0, number, scored.source_id, variant),
        strength=0.75,
        guidance_scale=7.5,
        num_inference_steps=30,
        negative_prompt="blurry",
        marginal_score=scored.score,
        source_caption=f"{caption} {class_name}" if "<" in class_name else caption,
        caption=f"{rewritten} {class_name}" if "<" in class_name else rewritten,
        prompt=f"A photo of {class_name}, which is {rewritten}",
        generator="tiny-sd",
        generator_revision="9f8e7d6c5b4a",
        vog=vog,
        rejected_by="black-image" if draw.random() < 0.02 else rejected,
    )


def _test_images(class_names: Sequence[str], side_px: int) -> LabelledImages:
    """Return an image for each row of `predictions`."""
    draw = random.Random(0)
    shown = [_image(side_px, label, draw) for label in range(len(class_names))]
    labels = [label for label in range(len(class_names)) for _ in range(100)]
    return LabelledImages.from_images(
        [shown[label] for label in labels],
        labels,
        class_names=class_names,
        ids=[f"test-{label}-{number % 100}" for number, label in enumerate(labels)],
    )


def _counted(reasons: Iterable[str]) -> Mapping[str, int]:
    listed = list(reasons)
    return {reason: listed.count(reason) for reason in dict.fromkeys(listed)}


def _image(side_px: int, label: int, draw: random.Random) -> Image.Image:
    """Return an image of a shape on a noisy background."""
    tint = [(label * 47 + k * 83) % 200 + 28 for k in range(3)]
    noise = Image.frombytes("RGB", (16, 16), draw.randbytes(16 * 16 * 3))
    image = Image.blend(
        Image.new("RGB", (side_px, side_px), (tint[0], tint[1], tint[2])),
        noise.resize((side_px, side_px), Image.Resampling.BICUBIC),
        0.3,
    )
    left, top = (int(draw.uniform(0.1, 0.4) * side_px) for _ in range(2))
    box = (left, top, left + side_px // 2, top + side_px // 2)
    ImageDraw.Draw(image).ellipse(box, fill=(tint[2], tint[0], tint[1]))
    return image


def _save(image: Image.Image, path: Path) -> None:
    image.save(path, compress_level=1)


def main() -> None:
    """Write a run folder and its report to look at."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--large", action="store_true", help="160 px, 20 rounds, odd class names")
    arguments = parser.parse_args()
    if arguments.large:
        build_run(arguments.out, class_names=NASTY_NAMES, rounds=20, epochs=200, sources=15,
                  side_px=256, quarantined=[(f"{NASTY}.jpg", "truncated file")])  # fmt: skip
    else:
        build_run(arguments.out, feedback=True, quarantined=[("cat/photo 7.jpg", "truncated file")])
    print(write_report(arguments.out))


if __name__ == "__main__":
    main()
