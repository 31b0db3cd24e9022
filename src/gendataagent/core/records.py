"""The records that flow through a run, all frozen, and the seeds derived from their identity.

`Candidate` is one image to be made; every stage returns changed copies (`dataclasses.replace`).
`RoundRecord` summarises one round, `RunManifest` describes what a run was made from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from gendataagent.core.png import png_bytes

SCHEMA_VERSION = 1

SEED_BITS = 63  # torch.Generator.manual_seed takes a signed 64-bit integer

# How a round's note begins that says how much of its work was missing, dropped or replaced.
SHORTFALL = "More than a quarter of"

# What an image is made from: the latent of its source, or noise, by text alone.
FROM_IMAGE, FROM_NOISE = "image", "noise"
# What else steers it: the edges of its source, by a ControlNet.
WITH_EDGES = "edges"
# The generator that makes none: it finds real images, see `generation.retrieval`.
RETRIEVAL = "retrieval"

HELD_OUT = ("test", "validation")  # splits that nothing may be trained on


def derive_seed(run_seed: int, *what: str | int) -> int:
    """Return a seed in [0, 2**63) that depends only on `run_seed` and on what is seeded.

    blake2b over length-prefixed parts: the same in every process and Python version (hash() is
    salted), and ("a", "bc") differs from ("ab", "c").
    """
    return _seed_of(_fed(hashlib.blake2b(digest_size=8), run_seed, *what))


def derive_seeds(run_seed: int, *what: str | int, each: Iterable[str | int]) -> list[int]:
    """Return `derive_seed(run_seed, *what, last)` for each `last`, in less time."""
    common = _fed(hashlib.blake2b(digest_size=8), run_seed, *what)
    return [_seed_of(_fed(common.copy(), last)) for last in each]


def _fed(digest: hashlib.blake2b, *parts: str | int) -> hashlib.blake2b:
    for part in parts:
        encoded = f"{type(part).__name__}:{part}".encode()
        digest.update(len(encoded).to_bytes(8, "little"))
        digest.update(encoded)
    return digest


def _seed_of(digest: hashlib.blake2b) -> int:
    return int.from_bytes(digest.digest(), "little") >> (64 - SEED_BITS)


def candidate_id(round_number: int, source_id: str, variant: int) -> str:
    """Return the id of a candidate: ASCII, and a safe file name whatever the source's id is."""
    digest = hashlib.blake2b(source_id.encode(), digest_size=8).hexdigest()
    return f"r{round_number:03d}-{digest}-v{variant}"


def image_file_name(id_: str) -> str:
    """Return the name of a candidate's image file in its round's folder of the pool."""
    return f"{id_}.png"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """One real training image and its score under the current classifier.

    Args:
        source_id: id of the image in the training set.
        label: index of its class.
        score: the selector's score; lower is chosen first (for the marginal score: p(true class)).
        min_share: the smallest of adaptive.shares that selects it; None where none are tried.
    """

    source_id: str
    label: int
    score: float
    min_share: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain JSON values; `min_share` only where it is known."""
        row = asdict(self)
        if self.min_share is None:
            del row["min_share"]
        return row


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One synthetic image, from plan to filtering.

    Later stages fill in the fields that have a default: caption and prompt by the captioner and
    rewriter, `generator` by the render stage, `vog` and `rejected_by` by the filter. `rejected_by`
    is None for a kept image, otherwise the reason in short ("vog", "black-image", ...).

    `label` and `class_name` are of the class that its prompt names. Where its source is of another
    class, `source_class` is the name of that one and `label_share` the part of `label` in a soft
    label, of which the source's class has the rest; else None and 1. `start` is "image" where it
    was made from the source's latent, "noise" where from text alone, "edges" where from text along
    the source's edges.

    `feedback`, `feedback_scale` and `guide` say how the classifier steered it: criterion, length of
    a step and SHA-256 of the classifier's weights; None = it did not.
    """

    id: str
    round: int
    source_id: str
    label: int
    class_name: str
    variant: int
    seed: int
    strength: float
    guidance_scale: float
    num_inference_steps: int
    negative_prompt: str
    source_class: str | None = None
    label_share: float = 1.0
    start: str = FROM_IMAGE
    marginal_score: float | None = None
    source_caption: str | None = None
    caption: str | None = None
    prompt: str | None = None
    rewritten_by: str | None = None
    generator: str | None = None
    generator_revision: str | None = None
    feedback: str | None = None
    feedback_scale: float | None = None
    guide: str | None = None
    vog: float | None = None
    rejected_by: str | None = None

    @property
    def class_of_source(self) -> str:
        """Name of the class of its source."""
        return self.source_class or self.class_name

    @property
    def made_from(self) -> str:
        """Id of the image it was made from; "" where it was from text alone."""
        return "" if self.start == FROM_NOISE else self.source_id

    @property
    def kept(self) -> bool:
        """Whether this image goes into training."""
        return self.rejected_by is None

    @property
    def file_name(self) -> str:
        """Name of its image file in the round's folder of the pool."""
        return image_file_name(self.id)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class RenderedCandidate:
    """A candidate after its render attempt, with the image if there is one.

    Args:
        png: the image as a PNG file, if it was encoded already.
    """

    candidate: Candidate
    image: Image.Image | None
    png: bytes | None = None

    def to_png(self) -> bytes | None:
        """Return the image as a PNG file; None = there is no image."""
        if self.png is not None or self.image is None:
            return self.png
        return png_bytes(self.image)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundRecord:
    """One round in numbers: counts, notes, and seconds per stage.

    Args:
        epoch: epochs trained when the round began.
        enters: epochs trained when its images were filtered and entered training; None = `epoch`.
        selected: number of real images selected as hard.
        made: candidates rendered; kept: those that go into training.
        rejected: reason -> count.
        rewriting: outcome of the rewriter's replies -> count: "taken", "replaced by NAME",
            "refused: REASON".
        seconds: stage -> wall-clock seconds (select, caption, rewrite, render, filter, probe),
            summed over interrupted attempts. With agent.overlap training goes on while images are
            rendered, and "wait" is for how long it did not.
        peak_memory_mib: stage -> peak memory: of the GPU as torch counts it, else of this process.
        notes: sentences for the user (for example: the filter had too few snapshots).
        choices: what was chosen on validation, with [adaptive]: strength (None = all of them
            mixed), share, drop_share, and gain and standard_error of what was kept, see
            `adaptive.Probe`.
    """

    round: int
    epoch: int
    selected: int
    made: int
    kept: int
    rejected: Mapping[str, int] = field(default_factory=dict)
    rewriting: Mapping[str, int] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    peak_memory_mib: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    choices: Mapping[str, float | None] = field(default_factory=dict)
    enters: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return {
            **asdict(self),
            "rejected": dict(self.rejected),
            "rewriting": dict(self.rewriting),
            "seconds": dict(self.seconds),
            "peak_memory_mib": dict(self.peak_memory_mib),
            "notes": list(self.notes),
            "choices": dict(self.choices),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardRecord:
    """The outcome of a guarded run.

    Args:
        chosen: "agent" or "baseline": whose classifier became the run's.
        agent_top1, agent_loss: validation accuracy and log-loss of the classifier trained with the
            agent; baseline_top1, baseline_loss: of the one trained without.
        stopped_epoch: epoch after which no synthetic images were used; None = never stopped.
    """

    chosen: str
    agent_top1: float
    agent_loss: float
    baseline_top1: float
    baseline_loss: float
    stopped_epoch: int | None = None

    @property
    def called(self) -> str:
        """What the run's result is called beside that of its baseline."""
        return "with the agent" if self.chosen == "agent" else "kept by the guard"

    @property
    def sentence(self) -> str:
        """The outcome in words."""
        which = "with the agent" if self.chosen == "agent" else "without the agent"
        stopped = (
            f" No synthetic images were used after epoch {self.stopped_epoch}."
            if self.stopped_epoch is not None
            else ""
        )
        return (
            f"The guard chose the classifier trained {which}: validation accuracy "
            f"{self.agent_top1:.1%} with the agent, {self.baseline_top1:.1%} without (log-loss "
            f"{self.agent_loss:.3f} and {self.baseline_loss:.3f}).{stopped}"
        )

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochMetrics:
    """One line of `metrics.jsonl`, written after each epoch.

    Accuracies are shares in [0, 1]; `seconds` is wall-clock time of the epoch's training.
    `train_accuracy` is measured in eval mode on the real training images, without augmentation;
    it and `validation_accuracy` are None on epochs where they were not measured.
    `real_images` and `synthetic_images` are those that the epoch drew from.
    """

    epoch: int
    loss: float
    learning_rate: float
    optimizer_steps: int
    real_images: int
    synthetic_images: int
    seconds: float
    train_accuracy: float | None = None
    validation_accuracy: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Metrics of a classifier on one split. Accuracies are shares in [0, 1].

    Args:
        split: "train", "validation" or "test".
        per_class: class name -> accuracy; a class without images in the split is absent.
        worst_case_disparity: min over classes of accuracy / max over classes (Ghosh et al. 2021);
            1 is parity, higher is better; 0 when the best class is at 0.
        confusion: row = true class, column = predicted class, counts, in class order.
    """

    split: str
    images: int
    top1: float
    per_class: Mapping[str, float]
    worst_class: str
    worst_class_accuracy: float
    worst_case_disparity: float
    loss: float
    ece: float
    confusion: tuple[tuple[int, ...], ...]

    @property
    def tied_at_worst(self) -> int:
        """Classes whose accuracy is that of the worst class, this one included."""
        return sum(share == self.worst_class_accuracy for share in self.per_class.values())

    @property
    def others_as_bad(self) -> str:
        """How many other classes are as bad, to follow the name of the worst; "" for none."""
        others = self.tied_at_worst - 1
        return f" and {others} more" if others > 0 else ""

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDescription:
    """Which model a backend is, for records.

    Args:
        name: hub id, path, or the name of a bundled model.
        revision: hub revision, or a content hash for a model on disk; "" where neither is known.
    """

    name: str
    revision: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunManifest:
    """What a run was made from; written when the run starts, checked on resume.

    Args:
        config_hash: hash of every setting that changes results (not workers, device, ...), but for
            where things are; see `config.paths`.
        data_fingerprint: hash of the ids, labels, splits and contents of the data.
        generator: with its LoRA once the run has adapted it; before that, the generator it adapts.
        classifier: what training starts from, if it is a folder.
        text_model: of the filter, if that is text-agreement.
        environment: python, torch, platform, device, package versions.
    """

    created: str
    seed: int
    config_hash: str
    data_fingerprint: str
    class_names: tuple[str, ...]
    images_per_split: Mapping[str, int]
    quarantined: int
    captioner: ModelDescription | None
    rewriter: ModelDescription | None
    generator: ModelDescription | None
    environment: Mapping[str, str]
    notes: tuple[str, ...] = ()
    classifier: ModelDescription | None = None
    text_model: ModelDescription | None = None
    schema_version: int = SCHEMA_VERSION

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return asdict(self)
