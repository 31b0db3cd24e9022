"""Options tried on a copy: the training under way is left alone, and gains are what they say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gendataagent.agent.adaptive import Probe, read_probes
from gendataagent.agent.adaptive.prober import Material, Prober, paired_gain
from gendataagent.config import TrainingConfig
from gendataagent.core.errors import TrainingDivergedError
from gendataagent.core.records import Candidate, derive_seed
from gendataagent.data.pixels import Pixels
from gendataagent.training.classifier import Classifier
from gendataagent.training.trainer import Trainer
from tests.made_records import candidates_of

MakePixels = Callable[..., Pixels]
Network = Callable[[int], nn.Module]

CONFIG = TrainingConfig(epochs=10, batch_size=8, learning_rate=0.05)
MADE = 24


def trainer_of(network: Network, config: TrainingConfig = CONFIG) -> Trainer:
    classifier = Classifier.wrap(network(0), class_names=("red", "green", "blue"), size_px=8)
    return Trainer(classifier, config, seed=3)


def relabelled(pixels: Pixels, labels: Tensor) -> Pixels:
    return Pixels(pixels.batch, labels, ids=pixels.ids, size_px=pixels.size_px)


class Bench:
    """Real images, validation images and made ones: half of those with wrong labels."""

    def __init__(self, make_pixels: MakePixels, network: Network) -> None:
        made = make_pixels(MADE, seed=2, prefix="made")
        self.right = torch.arange(MADE) < MADE // 2
        labels = torch.where(self.right, made.labels, (made.labels + 1) % 3)
        self.made = relabelled(made, labels)
        self.real = make_pixels(12, seed=0)
        self.validation = make_pixels(60, seed=1, prefix="v")
        self.candidates = candidates_of(self.made)
        self.trainer = trainer_of(network)
        self.trainer.fit_epoch(1, self.real)

    def prober(
        self, journal: Path, *, earlier: Pixels | None = None, trainer: Trainer | None = None,
        steps: int = 12, copies: int = 1, seed: int = 11,
    ) -> Prober:  # fmt: skip
        material = Material(
            real=self.real,
            validation=self.validation,
            earlier=earlier,
            earlier_candidates=candidates_of(earlier) if earlier is not None else [],
            made=self.made,
            candidates=self.candidates,
        )
        return Prober(
            trainer or self.trainer,
            material,
            steps=steps,
            copies=copies,
            seed=seed,
            journal=journal,
            on_probe=lambda: None,
        )

    def some(self, right: bool) -> list[Candidate]:
        return [
            c for c, ok in zip(self.candidates, self.right.tolist(), strict=True) if ok == right
        ]


@pytest.fixture
def bench(make_pixels: MakePixels, network: Network) -> Bench:
    return Bench(make_pixels, network)


def bits(trainer: Trainer) -> tuple[dict[str, Tensor], Sequence[object]]:
    tensors, state = trainer.state()
    modes = [module.training for module in trainer.classifier.module.modules()]
    grads = [p.requires_grad for p in trainer.classifier.module.parameters()]
    rng = torch.random.get_rng_state().tolist()
    return {k: v.clone() for k, v in tensors.items()}, [state, modes, grads, rng]


def test_the_training_under_way_is_untouched_to_the_bit(bench: Bench, tmp_path: Path) -> None:
    before, others = bits(bench.trainer)
    assert any(name.startswith("momentum.") for name in before)
    assert any("running_mean" in name for name in before)
    assert any("num_batches" in name for name in before)
    prober = bench.prober(tmp_path / "probes.jsonl")
    prober("none", None, [])
    prober("strength", 0.5, bench.some(right=True))
    after, still = bits(bench.trainer)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert others == still


def test_training_goes_on_as_if_nothing_had_been_tried(
    bench: Bench, make_pixels: MakePixels, network: Network, tmp_path: Path
) -> None:
    prober = bench.prober(tmp_path / "probes.jsonl")
    prober("strength", 0.5, bench.some(right=True))
    bench.trainer.fit_epoch(2, bench.real, bench.made)
    other = Bench(make_pixels, network)
    other.trainer.fit_epoch(2, other.real, other.made)
    mine, theirs = bench.trainer.state()[0], other.trainer.state()[0]
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


def test_every_option_starts_from_the_same_state(bench: Bench, tmp_path: Path) -> None:
    first = bench.prober(tmp_path / "a.jsonl")
    first("strength", 0.5, bench.some(right=False))
    late = first("strength", 0.9, bench.some(right=True))
    early = bench.prober(tmp_path / "b.jsonl")("strength", 0.9, bench.some(right=True))
    assert replace(late, seconds=0) == replace(early, seconds=0)


def test_several_copies_are_trained_in_different_order_and_averaged(
    bench: Bench, tmp_path: Path
) -> None:
    seeds = [11, derive_seed(11, "copy", 1), derive_seed(11, "copy", 2)]
    alone = [
        bench.prober(tmp_path / f"{n}.jsonl", seed=seed)("strength", 0.5, bench.some(right=True))
        for n, seed in enumerate(seeds)
    ]
    losses = [probe.loss for probe in alone if probe.loss is not None]
    gains = [probe.gain for probe in alone if probe.gain is not None]
    assert len(set(losses)) == 3
    both = bench.prober(tmp_path / "all.jsonl", copies=3)("strength", 0.5, bench.some(right=True))
    assert both.loss == pytest.approx(sum(losses) / 3)
    assert both.gain == pytest.approx(sum(gains) / 3)


def test_right_labels_help_and_wrong_ones_hurt(bench: Bench, tmp_path: Path) -> None:
    prober = bench.prober(tmp_path / "probes.jsonl", steps=40)
    nothing = prober("none", None, [])
    good = prober("strength", 0.5, bench.some(right=True))
    bad = prober("strength", 0.9, bench.some(right=False))
    assert (nothing.gain, nothing.standard_error, nothing.images) == (0.0, 0.0, 0)
    assert good.gain is not None
    assert bad.gain is not None
    assert good.gain > 0 > bad.gain
    assert good.gain == pytest.approx((nothing.loss or 0) - (good.loss or 0))
    assert bad.standard_error is not None
    assert bad.gain < -1.64 * bad.standard_error
    assert good.images == MADE // 2


def test_the_standard_error_is_that_of_paired_differences() -> None:
    random = np.random.default_rng(0)
    without, having = random.normal(size=50), random.normal(size=50)
    gain, error = paired_gain(torch.tensor(without), torch.tensor(having))
    assert gain == pytest.approx((without - having).mean())
    assert error == pytest.approx((without - having).std(ddof=1) / np.sqrt(50))


def test_a_probe_takes_the_steps_rate_and_batches_of_the_epoch_to_come(
    bench: Bench, tmp_path: Path
) -> None:
    config = replace(CONFIG, steps_per_epoch=5)
    twin = trainer_of(lambda _: bench.trainer.classifier.module, config)
    module = twin.classifier.module
    losses = {}
    for images in (None, bench.made):
        tensors, state = bench.trainer.state()
        kept = {name: value.clone() for name, value in tensors.items()}
        copied = Trainer(twin.classifier, config, seed=11)
        copied.load_state({name: value.clone() for name, value in kept.items()}, state)
        metrics = copied.fit_epoch(2, bench.real, images)
        assert metrics.optimizer_steps == 5
        logits = copied.classifier.predict_logits(bench.validation).double()
        losses[images is None] = nn.functional.cross_entropy(logits, bench.validation.labels)
        bench.trainer.load_state(kept, state)
        module.train()
    prober = bench.prober(tmp_path / "probes.jsonl", steps=5)
    assert prober("none", None, []).loss == pytest.approx(float(losses[True]), abs=1e-12)
    whole = prober("strength", None, bench.candidates)
    assert whole.loss == pytest.approx(float(losses[False]), abs=1e-12)


def test_what_is_on_disk_is_not_tried_again_and_the_rest_comes_out_the_same(
    bench: Bench, tmp_path: Path
) -> None:
    def tell(prober: Prober) -> list[Probe]:
        return [
            prober("none", None, []),
            prober("strength", None, bench.candidates),
            prober("strength", 0.5, bench.some(right=True)),
            prober("share", 0.5, bench.some(right=True)),
        ]

    whole = tell(bench.prober(tmp_path / "whole.jsonl"))
    journal = tmp_path / "cut.jsonl"
    lines = (tmp_path / "whole.jsonl").read_text().splitlines(keepends=True)
    journal.write_text("".join(lines[:2]) + lines[2][:-20])  # torn
    again = tell(bench.prober(journal))
    assert [replace(p, seconds=0) for p in again] == [replace(p, seconds=0) for p in whole]
    assert again[:2] == whole[:2]  # seconds too
    assert [replace(p, seconds=0) for p in read_probes(journal)] == [
        replace(p, seconds=0) for p in whole
    ]
    assert whole[3].seconds < whole[2].seconds / 10  # the same images, measured once


def test_images_of_earlier_rounds_stay_in_training_in_every_option(
    bench: Bench, make_pixels: MakePixels, tmp_path: Path
) -> None:
    earlier = make_pixels(9, seed=5, prefix="earlier")
    without = bench.prober(tmp_path / "a.jsonl")("none", None, [])
    having = bench.prober(tmp_path / "b.jsonl", earlier=earlier)("none", None, [])
    assert having.loss != without.loss
    assert (having.gain, having.images) == (0.0, 0)
    same = bench.prober(tmp_path / "c.jsonl", earlier=bench.made)("none", None, [])
    whole = bench.prober(tmp_path / "d.jsonl")("strength", None, bench.candidates)
    assert same.loss == whole.loss


def test_images_that_make_training_diverge_are_told_apart_from_a_training_that_does(
    bench: Bench, network: Network, tmp_path: Path
) -> None:
    wild = trainer_of(network, replace(CONFIG, synthetic_weight=1e30))
    wild.load_state(*bench.trainer.state())
    prober = bench.prober(tmp_path / "a.jsonl", trainer=wild)
    assert prober("none", None, []).loss is not None
    diverged = prober("strength", 0.5, bench.some(right=True))
    assert (diverged.loss, diverged.gain, diverged.standard_error) == (None, None, None)
    assert read_probes(tmp_path / "a.jsonl")[1] == diverged
    lost = trainer_of(network, replace(CONFIG, learning_rate=1e30))
    lost.load_state(*bench.trainer.state())
    with pytest.raises(TrainingDivergedError):
        bench.prober(tmp_path / "b.jsonl", trainer=lost)("none", None, [])
