"""The benchmarks of `gendataagent experiment`: what is compared with what, on which settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gendataagent.config.strategies import PEERS, STRATEGIES
from gendataagent.core.errors import ConfigError
from gendataagent.core.suggestions import did_you_mean
from gendataagent.experiments.benchmarks import Arm, Benchmark

# Few-shot CIFAR-10 with the bundled generator; guidance from docs/results/choose-demo.md. The first
# round is as early as VoG's two snapshots allow; the paper's is after 1/20 of the training.
FEWSHOT: Mapping[str, Any] = {
    "data": {"path": "bundled:cifar10", "train_per_class": 50},
    "classifier": {"model": "tiny-resnet"},
    "training": {
        "epochs": 24, "steps_per_epoch": 24, "batch_size": 48, "learning_rate": 0.1,
        "warmup_epochs": 1, "decay_milestones": [0.6, 0.85], "evaluate_every_epochs": 12,
        "checkpoint_every_epochs": 12,
    },
    "agent": {"rounds": 2, "first_round_epoch": 2},
    "generation": {
        "generator": "tiny-sd", "num_inference_steps": 8, "strength": 0.8, "guidance_scale": 7.5,
        "chunk_size": 32,
    },
    "filter": {"snapshot_at": [0.04, 0.08, 0.125]},
}  # fmt: skip
_EVIDENCE_ARMS = tuple(Arm(name=name, strategy=name) for name in STRATEGIES if name not in PEERS)


def all_benchmarks() -> Iterator[Benchmark]:
    """Yield every benchmark by name of `gendataagent experiment`."""
    yield Benchmark(
        name="fewshot-cifar10",
        about="every compared system and ablation, few-shot CIFAR-10",
        base=FEWSHOT,
        arms=_EVIDENCE_ARMS,
        baseline="only-real",
        budget=2.0,
    )
    yield _peers()
    yield from _feedback()
    yield _speed()
    yield from _tables()


def find_benchmark(name: str) -> Benchmark:
    """Return a benchmark by its name; raise `ConfigError` for an unknown one."""
    benchmarks = {benchmark.name: benchmark for benchmark in all_benchmarks()}
    if name not in benchmarks:
        raise ConfigError(f"unknown experiment {name!r}; {did_you_mean(name, benchmarks)}")
    return benchmarks[name]


# A folder or a generator of the user's is needed, or an adaptation that takes longer than all other
# arms.
_ONLY_NAMED = (
    "retrieval", "saspa", "datadream", "datadream-cls", "bob", "da-fusion-tokens",
    "diff-mix-tokens",
)  # fmt: skip


# A mechanism that makes its images before training, in the rounds of gendataagent-guided instead.
_STEERED: Mapping[str, Any] = {
    "agent": {"first_round_epoch": 0, "rounds": 4, "rounds_within": 0.5, "pool": "accumulate"},
    "selection": {"share": 0.5, "per_class": True, "fresh": True},
    "generation": {"feedback": "entropy", "feedback_scale": "auto"},
}


def _peers() -> Benchmark:
    """Return the comparison with the mechanisms of other papers, see docs/peers.md."""
    own = ("only-real", "real-fake", "gendataagent", "gendataagent-plus", "gendataagent-guided")
    return Benchmark(
        name="peers",
        about="the mechanisms of other papers against uniform synthesis and this project's own",
        base=FEWSHOT, baseline="real-fake", budget=2.0,
        arms=(
            *(Arm(name=n, strategy=n) for n in (*own, *PEERS) if n not in _ONLY_NAMED),
            *(Arm(name=f"{n}-feedback", strategy=n, settings=_STEERED)
              for n in ("da-fusion", "diff-mix", "real-guidance")),
            Arm(name="tada-feedback", strategy="tada", settings=_generation(feedback="entropy")),
        ),
    )  # fmt: skip


def _feedback() -> Iterator[Benchmark]:
    """Yield the proof of feedback and its controls, see docs/results/feedback/plan.md."""
    compared = (
        "gendataagent-guided", "gendataagent-unguided", "real-fake-plus", "gendataagent-plus",
        "real-fake",
    )  # fmt: skip
    yield Benchmark(
        name="feedback",
        about="feedback in the sampler against its twin without and against static synthesis",
        base=FEWSHOT, baseline="gendataagent-unguided", budget=2.0,
        arms=tuple(Arm(name=name, strategy=name) for name in compared),
    )  # fmt: skip
    yield Benchmark(
        name="feedback-controls",
        about="what feedback is made of: direction, criterion, scale, views, sources",
        base=FEWSHOT, baseline="gendataagent-guided", budget=2.0,
        arms=(
            Arm(name="gendataagent-guided", strategy="gendataagent-guided"),
            *(
                Arm(name=name, strategy="gendataagent-guided", settings=settings)
                for name, settings in (
                    ("random-direction", _generation(feedback="random", feedback_scale=0.06)),
                    ("easy", _generation(feedback="easy", feedback_scale=0.06)),
                    ("loss", _generation(feedback="loss")),
                    ("margin", _generation(feedback="margin")),
                    ("scale-0.05", _generation(feedback_scale=0.05)),
                    ("scale-0.1", _generation(feedback_scale=0.1)),
                    ("scale-0.2", _generation(feedback_scale=0.2)),
                    ("one-view", _generation(feedback_views=1)),
                    ("hard-sources", {"selection": {"by": "marginal", "share": 0.2,
                                                    "per_class": False, "fresh": False},
                                      "prompting": {"rewrites": 5}}),
                )
            ),
            Arm(name="gendataagent", strategy="gendataagent"),
            Arm(name="gendataagent-feedback", strategy="gendataagent-feedback"),
        ),
    )  # fmt: skip
    yield Benchmark(
        name="feedback-larger",
        about="changes of feedback, each alone, against it and its twin without",
        base=FEWSHOT, baseline="gendataagent-guided", seeds=(20, 21, 22), budget=2.0,
        arms=(
            Arm(name="gendataagent-guided", strategy="gendataagent-guided"),
            Arm(name="gendataagent-unguided", strategy="gendataagent-unguided"),
            *(
                Arm(name=name, strategy="gendataagent-guided", settings=settings)
                for name, settings in (
                    ("harder", _generation(feedback_target=0.85)),
                    ("from-epoch-1", {"agent": {"first_round_epoch": 1}}),
                    ("one-round", {"agent": {"first_round_epoch": 3, "rounds": 1},
                                   "selection": {"share": 1.0}, "prompting": {"rewrites": 2}}),
                    ("six-views", _generation(feedback_views=6)),
                    ("margin", _generation(feedback="margin")),
                    ("class-budgets", _CLASS_BUDGETS),
                    ("no-rewriting", {"prompting": {"rewriter": "none"}}),
                    ("together", {**_CLASS_BUDGETS, **_generation(feedback_views=6),
                                  "agent": {"first_round_epoch": 1}}),
                )
            ),
            Arm(name="class-budgets-unguided", strategy="gendataagent-unguided",
                settings=_CLASS_BUDGETS),
        ),
    )  # fmt: skip
    yield Benchmark(
        name="feedback-growth",
        about="feedback by the number of generated images, 1 to 8 times, at equal steps",
        base=FEWSHOT, baseline="only-real", seeds=(0, 1, 2), budget=2.0,
        arms=(
            Arm(name="only-real", strategy="only-real"),
            *(
                Arm(name=f"{strategy}-x{times:g}", strategy=strategy, budget=times)
                for times in (1.0, 2.0, 4.0, 8.0)
                for strategy in ("real-fake-plus", "gendataagent-unguided", "gendataagent-guided")
            ),
        ),
    )  # fmt: skip

    yield Benchmark(
        name="overlap",
        about="images that enter training one round later, as with agent.overlap",
        base=FEWSHOT, baseline="gendataagent-guided", budget=2.0,
        arms=tuple(
            Arm(name=f"{strategy}{'-overlap' if overlap else ''}", strategy=strategy,
                settings={"agent": {"overlap": True}} if overlap else {})
            for strategy in ("gendataagent-guided", "gendataagent-unguided")
            for overlap in (False, True)
        ),
    )  # fmt: skip


_CLASS_BUDGETS = {"selection": {"budget_by": "validation-error"}}


def _speed() -> Benchmark:
    """Return the study of accuracy against time, see docs/speed.md.

    At strength 0.8, 3, 5, 10 and 25 scheduler steps execute the 2, 4, 8 and 20 of the arms' names.
    Rounds without feedback make the same requests as their twins with it, hence no sharing.
    """
    steps = {2: 3, 4: 5, 8: 10, 20: 25}

    def arm(name: str, steps: int, *, strategy: str = "gendataagent-unguided", **more: Any) -> Arm:
        settings = _generation(num_inference_steps=steps, **more)
        return Arm(name=name, strategy=strategy, settings=settings)

    return Benchmark(
        name="speed", about="accuracy against time: steps, guidance, merged tokens, decoder",
        base=FEWSHOT, baseline="only-real", seeds=(0, 1, 2), budget=2.0, shares_images=False,
        arms=(
            Arm(name="only-real", strategy="only-real"),
            *(arm(f"steps-{executed}", n) for executed, n in steps.items()),
            *(arm(f"no-guidance-{executed}", n, guidance_scale=1.0)
              for executed, n in steps.items()),
            *(arm(f"merged-{share:.2f}", steps[8], merge_tokens=share)
              for share in (0.25, 0.5, 0.75)),
            *(arm(f"feedback-{decoder}", steps[8], strategy="gendataagent-guided",
                  feedback_decoder=decoder) for decoder in ("vae", "half")),
        ),
    )  # fmt: skip


def _generation(**settings: Any) -> dict[str, Any]:
    return {"generation": settings}


def _tables() -> Iterator[Benchmark]:
    """Yield the tables of the paper's supplementary, and studies beyond them."""
    compared = ("real-fake", "internet-explorer", "gendataagent")
    arms = tuple(Arm(name=name, strategy=name) for name in compared)
    three = (0, 1, 2)
    yield Benchmark(
        name="table1", about="top-1 and worst-case disparity of three systems, three seeds",
        base=FEWSHOT, arms=arms, baseline="real-fake", seeds=three, budget=2.0,
        paper={"real-fake": "Pets 94.0 ± 0.15, CUB 80.5 ± 2.25, Flowers 89.2 ± 0.32, "
                            "Birdsnap 73.1 ± 0.31",
               "internet-explorer": "Pets 94.3 ± 0.25, CUB 83.2 ± 0.36, Flowers 90.7 ± 0.44, "
                                    "Birdsnap 73.7 ± 0.15",
               "gendataagent": "Pets 94.6 ± 0.10, CUB 84.1 ± 0.17, Flowers 91.5 ± 0.46, "
                               "Birdsnap 74.0 ± 0.57"},
    )  # fmt: skip
    yield Benchmark(
        name="table2", about="strength of the image-to-image step; hardest fifth, no filter",
        base=FEWSHOT, baseline="only-real", seeds=three, budget=2.0,
        arms=(
            Arm(name="only-real", strategy="only-real"),
            *(
                Arm(name=f"strength-{strength:.2f}", strategy="gendataagent",
                    settings={"generation": {"strength": strength}, "filter": {"by": "none"}})
                for strength in (0.5, 0.75, 0.9)
            ),
        ),
        paper={"strength-0.50": "Pets 94.0, CUB 81.0, Flowers 89.9, Birdsnap 71.4, IN100 88.6",
               "strength-0.75": "Pets 94.0, CUB 82.2, Flowers 88.4, Birdsnap 73.6, IN100 88.7",
               "strength-0.90": "Pets 94.4, CUB 83.6, Flowers 88.8, Birdsnap 73.5, IN100 89.1"},
    )  # fmt: skip
    yield Benchmark(
        name="table3", about="share of the training set selected as hard; no filter",
        base=FEWSHOT, baseline="only-real", seeds=three, budget=2.0,
        arms=(
            Arm(name="only-real", strategy="only-real"),
            *(
                Arm(name=f"share-{share:.2f}", strategy="gendataagent",
                    settings={"selection": {"share": share}, "filter": {"by": "none"}})
                for share in (0.2, 0.25, 0.5)
            ),
            Arm(name="real-fake", strategy="real-fake"),
        ),
        paper={"only-real": "Pets 93.6, CUB 83.1, Flowers 87.4, Birdsnap 73.0, IN100 87.4",
               "share-0.20": "Pets 94.4, CUB 83.6, Flowers 90.0, Birdsnap 73.6, IN100 89.1",
               "share-0.25": "Pets 94.2, CUB 83.9, Flowers 89.9, Birdsnap 73.5, IN100 89.6",
               "share-0.50": "Pets 94.6, CUB 83.6, Flowers 90.1, Birdsnap 73.4, IN100 89.9",
               "real-fake": "Pets 94.2, CUB 83.1, Flowers 89.0, Birdsnap 73.0, IN100 88.6"},
    )  # fmt: skip
    yield Benchmark(
        name="table4", about="share dropped by the filter, both directions and at random",
        base=FEWSHOT, baseline="real-fake", seeds=three, budget=2.0,
        arms=(
            Arm(name="only-real", strategy="only-real"),
            Arm(name="real-fake", strategy="real-fake"),
            *(
                Arm(name=f"{name}-{share:.2f}", strategy="vog-only",
                    settings={"filter": {"drop_share": share, **change}})
                for share in (0.25, 0.5, 0.75)
                for name, change in (("vog-high", {"keep": "high"}), ("vog-low", {"keep": "low"}),
                                     ("random", {"by": "random"}))
            ),
        ),
        paper={"real-fake": "Pets 94.2, CUB 83.1, Flowers 89.0, Birdsnap 73.0, IN100 88.6",
               "vog-high-0.25": "Pets 94.5, CUB 83.7, Flowers 90.6, Birdsnap 73.9, IN100 90.1",
               "vog-high-0.50": "Pets 94.5, CUB 83.9, Flowers 90.1, Birdsnap 74.2, IN100 89.6",
               "vog-high-0.75": "Pets 94.7, CUB 83.3, Flowers 91.0, Birdsnap 74.5, IN100 89.6"},
    )  # fmt: skip
    pair = tuple(Arm(name=name, strategy=name) for name in ("real-fake", "gendataagent"))
    yield Benchmark(
        name="table7", about="top-1 under Gaussian blur and speckle noise",
        base=FEWSHOT, arms=pair, baseline="real-fake", seeds=three, budget=2.0,
        paper={"real-fake": "clean / blur / speckle: Pets 94.2 / 93.0 / 90.4, CUB 83.1 / 77.3 / "
                            "75.4, Flowers 89.0 / 88.0 / 79.2",
               "gendataagent": "Pets 94.7 / 93.6 / 90.9, CUB 83.9 / 79.1 / 76.0, Flowers 91.0 / "
                               "90.3 / 82.4"},
    )  # fmt: skip
    yield Benchmark(
        name="table8", about="train accuracy, validation accuracy and their gap",
        base=FEWSHOT, arms=pair, baseline="real-fake", seeds=three, budget=2.0,
        paper={"real-fake": "gap: Pets 5.5, CUB 10.5, Flowers 10.1, Birdsnap 17.2, IN100 6.8",
               "gendataagent": "gap: Pets 3.1, CUB 8.3, Flowers 7.3, Birdsnap 14.6, IN100 4.7"},
    )  # fmt: skip
    yield Benchmark(
        name="open-points", about="choices the paper leaves open, one change at a time",
        base=FEWSHOT, baseline="gendataagent", seeds=three, budget=2.0,
        arms=(
            Arm(name="gendataagent", strategy="gendataagent"),
            Arm(name="accumulate", strategy="gendataagent",
                settings={"agent": {"pool": "accumulate"}}),
            Arm(name="per-class", strategy="gendataagent",
                settings={"selection": {"per_class": True}}),
            Arm(name="before-vog", strategy="gendataagent",
                settings={"agent": {"first_round_epoch": 1}}),
            *(
                Arm(name=f"{name}-guidance-{guidance:g}", strategy="gendataagent",
                    settings={"generation": {"guidance_scale": guidance}, **change})
                for guidance in (2.0, 7.5)
                for name, change in (("rewritten", {}),
                                     ("same-caption", {"prompting": {"rewriter": "none"}}))
                if (name, guidance) != ("rewritten", 7.5)
            ),
        ),
    )  # fmt: skip
    yield Benchmark(
        name="ideas", about="ideas from related work, one at a time on the paper's setting",
        base=FEWSHOT, baseline="gendataagent", seeds=three, budget=2.0,
        arms=(
            Arm(name="gendataagent", strategy="gendataagent"),
            *(
                Arm(name=name, strategy="gendataagent", settings=settings)
                for name, settings in (
                    ("loss-weight-0.5", {"training": {"synthetic_weight": 0.5}}),
                    ("loss-weight-2", {"training": {"synthetic_weight": 2.0}}),
                    ("soft-labels", {"training": {"synthetic_label_smoothing": 0.3}}),
                    ("long-warm-up", {"agent": {"first_round_epoch": 8}}),
                    ("by-class-error", {"selection": {"budget_by": "validation-error"}}),
                    ("adaptive", {"adaptive": {"enabled": True}}),
                    ("adaptive-3-probes", {"adaptive": {"enabled": True, "probes": 3}}),
                    ("guard", {"agent": {"guard": True}}),
                    ("batchnorm-from-real", {"training": {"batchnorm_from_real": True}}),
                )
            ),
        ),
    )  # fmt: skip
    yield Benchmark(
        name="efficiency", about="accuracy by the number of generated images, 0.5 to 10 times",
        base=FEWSHOT, baseline="only-real", seeds=three, budget=2.0,
        arms=(
            Arm(name="only-real", strategy="only-real"),
            *(
                Arm(name=f"{strategy}-x{times:g}", strategy=strategy, budget=times)
                for times in (0.5, 1.0, 2.0, 4.0, 10.0)
                for strategy in ("real-fake", "gendataagent", "gendataagent-plus")
            ),
            # A third of x4: does it match uniform synthesis at x4?
            Arm(name="gendataagent-plus-x1.33", strategy="gendataagent-plus", budget=4 / 3),
        ),
    )  # fmt: skip
