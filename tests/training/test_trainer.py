from __future__ import annotations

import math
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from gendataagent.config import ClassifierConfig, TrainingConfig
from gendataagent.core.checkpoints import load_latest, save_checkpoint
from gendataagent.core.errors import DataError, ModelError, TrainingDivergedError
from gendataagent.data.pixels import Pixels
from gendataagent.training.backbones import build_classifier
from gendataagent.training.classifier import Classifier
from gendataagent.training.evaluation import evaluate
from gendataagent.training.trainer import Trainer, class_weights

MakePixels = Callable[..., Pixels]
Network = Callable[[int], nn.Module]

QUICK = TrainingConfig(epochs=4, batch_size=8, learning_rate=0.05)


def new_classifier(network: Network, seed: int = 0) -> Classifier:
    return Classifier.wrap(network(seed), class_names=("red", "green", "blue"), size_px=8)


def linear_network(seed: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 3))


def equal_states(first: Trainer, second: Trainer) -> bool:
    (tensors, state), (others, other_state) = first.state(), second.state()
    return (
        tensors.keys() == others.keys()
        and all(torch.equal(tensors[name], others[name]) for name in tensors)
        and state == other_state
    )


class Recorder:
    """Pixels that write down which images were read."""

    def __init__(self, pixels: Pixels) -> None:
        self.batches: list[list[int]] = []
        self.pixels = Pixels(
            lambda indices: self._read(pixels, indices),
            pixels.labels,
            ids=pixels.ids,
            size_px=pixels.size_px,
        )

    def _read(self, pixels: Pixels, indices: Tensor) -> Tensor:
        self.batches.append(indices.tolist())
        return pixels.batch(indices)


@pytest.mark.parametrize("steps_per_epoch", [0, 5])
@pytest.mark.parametrize("mixed_precision", ["no", "bf16"])
def test_resumed_training_is_equal_to_the_bit(
    network: Network,
    make_pixels: MakePixels,
    tmp_path: Path,
    steps_per_epoch: int,
    mixed_precision: str,
) -> None:
    config = TrainingConfig(
        epochs=4,
        batch_size=8,
        steps_per_epoch=steps_per_epoch,
        mixed_precision=mixed_precision,
        learning_rate=0.05,
        warmup_epochs=1,
    )
    real, synthetic = make_pixels(21), make_pixels(10, seed=1)
    through = Trainer(new_classifier(network), config, seed=3)
    metrics = [through.fit_epoch(epoch, real, synthetic) for epoch in range(1, 5)]

    stopped = Trainer(new_classifier(network), config, seed=3)
    for epoch in (1, 2):
        stopped.fit_epoch(epoch, real, synthetic)
    save_checkpoint(tmp_path, 2, *stopped.state())
    del stopped
    torch.rand(17)  # another process has another history

    resumed = Trainer(new_classifier(network, seed=99), config, seed=3)
    found = load_latest(tmp_path)
    assert found is not None
    resumed.load_state(found.tensors, found.state)
    assert resumed.epochs_done == 2
    again = [resumed.fit_epoch(epoch, real, synthetic) for epoch in (3, 4)]
    assert equal_states(through, resumed)
    assert [row.loss for row in again] == [row.loss for row in metrics[2:]]


def test_resuming_the_bundled_classifier_is_equal_to_the_bit(make_pixels: MakePixels) -> None:
    def trainer(seed: int) -> Trainer:
        names = ("red", "green", "blue")
        classifier = build_classifier(ClassifierConfig(model="tiny-resnet"), names, seed=seed)
        return Trainer(classifier, QUICK, seed=3)

    pixels = make_pixels(12, side=32)
    through = trainer(0)
    through.fit_epoch(1, pixels)
    tensors, state = through.state()
    tensors = {name: value.clone().contiguous() for name, value in tensors.items()}
    through.fit_epoch(2, pixels)
    resumed = trainer(1)
    resumed.load_state(tensors, state)
    resumed.fit_epoch(2, pixels)
    assert equal_states(through, resumed)


def test_another_seed_gives_another_result(network: Network, make_pixels: MakePixels) -> None:
    first, second = (Trainer(new_classifier(network), QUICK, seed=seed) for seed in (0, 1))
    for trainer in (first, second):
        trainer.fit_epoch(1, make_pixels(20))
    assert not equal_states(first, second)


def test_it_learns(network: Network, make_pixels: MakePixels) -> None:
    trainer = Trainer(new_classifier(network), QUICK, seed=0)
    before = evaluate(trainer.classifier, make_pixels(60, seed=5), "test").top1
    losses = [trainer.fit_epoch(epoch, make_pixels(90)).loss for epoch in range(1, 5)]
    after = evaluate(trainer.classifier, make_pixels(60, seed=5), "test").top1
    assert losses[-1] < 0.5 * losses[0]
    assert before < 0.7 < 0.95 < after


def test_metrics_describe_the_epoch(network: Network, make_pixels: MakePixels) -> None:
    trainer = Trainer(new_classifier(network), QUICK, seed=0)
    steps: list[tuple[int, int]] = []
    metrics = trainer.fit_epoch(
        2,
        make_pixels(20),
        make_pixels(6, seed=1),
        on_step=lambda done, all_, loss: steps.append((done, all_)),
    )
    assert (metrics.epoch, metrics.optimizer_steps) == (2, 4)
    assert (metrics.real_images, metrics.synthetic_images) == (20, 6)
    assert metrics.learning_rate == trainer.learning_rate(2)
    assert metrics.seconds > 0
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_an_epoch_is_one_pass_over_everything(network: Network, make_pixels: MakePixels) -> None:
    real, synthetic = Recorder(make_pixels(19)), Recorder(make_pixels(6, seed=1))
    trainer = Trainer(new_classifier(network), QUICK, seed=0)
    metrics = trainer.fit_epoch(1, real.pixels, synthetic.pixels)
    assert sorted(chain(*real.batches)) == list(range(19))
    assert sorted(chain(*synthetic.batches)) == list(range(6))
    # 25 = 8 + 8 + 9: of a last image alone BatchNorm could not take statistics
    assert metrics.optimizer_steps == 3
    orders = list(real.batches)
    real.batches.clear()
    trainer.fit_epoch(2, real.pixels, synthetic.pixels)
    assert real.batches != orders


def test_a_fixed_number_of_steps_is_kept_whatever_the_size(
    network: Network, make_pixels: MakePixels
) -> None:
    config = TrainingConfig(epochs=4, batch_size=8, steps_per_epoch=6, learning_rate=0.05)
    recorder = Recorder(make_pixels(20))
    metrics = Trainer(new_classifier(network), config, seed=0).fit_epoch(1, recorder.pixels)
    seen = list(chain(*recorder.batches))
    assert metrics.optimizer_steps == len(recorder.batches) == 6
    assert {len(batch) for batch in recorder.batches} == {8}
    # an endless stream of reshuffled passes: 48 = two whole passes and 8 images of a third
    assert sorted(seen[:20]) == sorted(seen[20:40]) == list(range(20))
    assert seen[:20] != seen[20:40]
    assert len(set(seen[40:])) == 8


@pytest.mark.parametrize(("steps", "sizes"), [(3, [8, 8, 4]), (5, [8] * 5), (2, [8, 8])])
def test_a_planned_number_of_steps_is_kept(
    network: Network, make_pixels: MakePixels, steps: int, sizes: list[int]
) -> None:
    recorder = Recorder(make_pixels(20))
    trainer = Trainer(new_classifier(network), QUICK, seed=0)
    assert trainer.fit_epoch(1, recorder.pixels, steps=steps).optimizer_steps == steps
    assert [len(batch) for batch in recorder.batches] == sizes


def test_a_planned_step_has_no_image_twice(network: Network, make_pixels: MakePixels) -> None:
    recorder = Recorder(make_pixels(5))
    Trainer(new_classifier(network), QUICK, seed=0).fit_epoch(1, recorder.pixels, steps=4)
    assert [sorted(batch) for batch in recorder.batches] == [list(range(5))] * 4


def uneven(make_pixels: MakePixels) -> Pixels:
    """Ten images of class 0, two of class 1, one of class 2."""
    pixels = make_pixels(13)
    labels = torch.tensor([0] * 10 + [1] * 2 + [2])
    return Pixels(pixels.batch, labels, ids=pixels.ids, size_px=pixels.size_px)


def test_balanced_sampling_draws_every_class_equally_often(
    network: Network, make_pixels: MakePixels
) -> None:
    config = TrainingConfig(
        batch_size=6, steps_per_epoch=10, class_balance="sampling", learning_rate=0.01
    )
    recorder = Recorder(uneven(make_pixels))
    Trainer(new_classifier(network), config, seed=0).fit_epoch(1, recorder.pixels)
    labels = recorder.pixels.labels
    for batch in recorder.batches:  # 6 images of 3 classes: two of each
        assert sorted(labels[batch].tolist()) == [0, 0, 1, 1, 2, 2]
    seen = list(chain(*recorder.batches))
    assert sorted(index for index in seen if index < 10) == sorted([*range(10)] * 2)
    firsts = [labels[batch[0]].item() for batch in recorder.batches]
    assert len(set(firsts)) > 1  # not always in the order of the classes


def test_weights_make_every_class_count_the_same(make_pixels: MakePixels) -> None:
    weights_N = class_weights(uneven(make_pixels).labels)
    assert weights_N.mean().item() == pytest.approx(1)
    assert weights_N[:10].sum() == pytest.approx(weights_N[10:12].sum().item())
    assert weights_N[:10].sum() == pytest.approx(weights_N[12].item())
    # a class without images takes no part
    assert class_weights(torch.tensor([0, 0, 2])).tolist() == [0.75, 0.75, 1.5]


def test_weights_scale_the_loss(make_pixels: MakePixels) -> None:
    """The mean over images of weight times loss, of a network that knows nothing: log 3."""

    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bias = nn.Parameter(torch.zeros(3))

        def forward(self, images_B3SS: Tensor) -> Tensor:
            return self.bias.expand(len(images_B3SS), 3)

    pixels = uneven(make_pixels)
    config = TrainingConfig(batch_size=13, learning_rate=1e-9, class_balance="weights")
    flat = Classifier.wrap(Flat(), class_names=("red", "green", "blue"), size_px=8)
    assert Trainer(flat, config, seed=0).fit_epoch(1, pixels).loss == pytest.approx(math.log(3))
    biased = Classifier.wrap(Flat(), class_names=("red", "green", "blue"), size_px=8)
    with torch.no_grad():
        next(biased.module.parameters())[0] = 1.0  # right on the large class
    losses = -nn.functional.log_softmax(torch.tensor([1.0, 0.0, 0.0]), dim=0)
    loss = Trainer(biased, config, seed=0).fit_epoch(1, pixels).loss
    assert loss == pytest.approx(losses.mean().item(), abs=1e-5)  # as if 13 / 3 images of each


@pytest.mark.parametrize("balance", ["weights", "sampling"])
def test_balanced_training_resumes_to_the_bit(
    network: Network, make_pixels: MakePixels, tmp_path: Path, balance: str
) -> None:
    config = TrainingConfig(epochs=4, batch_size=4, learning_rate=0.05, class_balance=balance)
    real, synthetic = uneven(make_pixels), make_pixels(5, seed=1)
    through = Trainer(new_classifier(network), config, seed=3)
    for epoch in range(1, 5):
        through.fit_epoch(epoch, real, synthetic)
    stopped = Trainer(new_classifier(network), config, seed=3)
    for epoch in (1, 2):
        stopped.fit_epoch(epoch, real, synthetic)
    save_checkpoint(tmp_path, 2, *stopped.state())
    checkpoint = load_latest(tmp_path)
    assert checkpoint is not None
    resumed = Trainer(new_classifier(network, seed=9), config, seed=3)
    resumed.load_state(checkpoint.tensors, checkpoint.state)
    for epoch in (3, 4):
        resumed.fit_epoch(epoch, real, synthetic)
    assert equal_states(through, resumed)


def test_the_weight_of_synthetic_images_scales_their_loss(
    network: Network, make_pixels: MakePixels
) -> None:
    def loss(weight: float) -> float:
        config = TrainingConfig(
            epochs=1, batch_size=12, synthetic_weight=weight, augmentation="none", colour_jitter=0
        )
        linear = nn.Linear(192, 3)
        nn.init.zeros_(linear.weight)
        nn.init.zeros_(linear.bias)
        classifier = new_classifier(lambda _: nn.Sequential(nn.Flatten(), linear))
        trainer = Trainer(classifier, config, seed=0)
        return trainer.fit_epoch(1, make_pixels(8), make_pixels(4, seed=1)).loss

    assert loss(1.0) == pytest.approx(math.log(3), rel=1e-6)
    assert loss(0.25) == pytest.approx(math.log(3) * (8 + 4 * 0.25) / 12, rel=1e-6)


def test_the_paper_s_schedule() -> None:
    classifier = new_classifier(linear_network)
    trainer = Trainer(classifier, TrainingConfig(), seed=0)
    rates = {epoch: trainer.learning_rate(epoch) for epoch in (1, 50, 51, 100, 101, 150, 151, 200)}
    assert rates == pytest.approx(
        {1: 0.1, 50: 0.1, 51: 0.02, 100: 0.02, 101: 4e-3, 150: 4e-3, 151: 8e-4, 200: 8e-4}
    )


def test_the_schedule_of_a_short_run_starts_at_the_full_rate() -> None:
    classifier = new_classifier(linear_network)
    only = Trainer(classifier, TrainingConfig(epochs=1), seed=0)
    assert only.learning_rate(1) == 0.1
    # 0.55 * 100 is a little more than 55 in floating point; the drop is after epoch 55
    hundred = TrainingConfig(epochs=100, decay_milestones=(0.55,))
    assert Trainer(classifier, hundred, seed=0).learning_rate(55) == 0.1
    assert Trainer(classifier, hundred, seed=0).learning_rate(56) == pytest.approx(0.02)


def test_warm_up_is_linear_and_never_0() -> None:
    classifier = new_classifier(linear_network)
    trainer = Trainer(classifier, TrainingConfig(warmup_epochs=2), seed=0)
    assert trainer.learning_rate(1, 0.0) == pytest.approx(0.001)
    assert trainer.learning_rate(1, 0.5) == pytest.approx(0.025)
    assert trainer.learning_rate(2, 0.5) == pytest.approx(0.075)
    assert trainer.learning_rate(3, 0.0) == pytest.approx(0.1)


def test_a_step_is_sgd_with_nesterov_momentum_and_weight_decay(make_pixels: MakePixels) -> None:
    """Two steps from 0 at batch size = set size, against the formulas by hand."""
    pixels = make_pixels(6)
    linear = nn.Linear(192, 3, bias=False)
    nn.init.constant_(linear.weight, 0.01)
    classifier = new_classifier(lambda _: nn.Sequential(nn.Flatten(), linear))
    config = TrainingConfig(
        epochs=8, batch_size=6, learning_rate=0.01, augmentation="none", colour_jitter=0,
        mixed_precision="no",
    )  # fmt: skip
    trainer = Trainer(classifier, config, seed=0)
    inputs = classifier.normalise(pixels.batch(torch.arange(6)).float() / 255).flatten(1)
    targets = nn.functional.one_hot(pixels.labels, 3).float()
    weight, velocity = torch.full((3, 192), 0.01), torch.zeros((3, 192))
    for epoch in (1, 2):
        trainer.fit_epoch(epoch, pixels)
        error = (inputs @ weight.T).softmax(dim=1) - targets
        gradient = error.T @ inputs / 6 + 5e-4 * weight
        velocity = gradient if epoch == 1 else 0.9 * velocity + gradient
        weight = weight - 0.01 * (gradient + 0.9 * velocity)
    torch.testing.assert_close(linear.weight.detach(), weight, atol=1e-6, rtol=1e-5)


def test_gradients_are_clipped(network: Network, make_pixels: MakePixels) -> None:
    config = TrainingConfig(
        epochs=1, batch_size=8, steps_per_epoch=1, gradient_clip=1e-3, momentum=0, weight_decay=0,
        learning_rate=1.0, nesterov=False,
    )  # fmt: skip
    classifier = new_classifier(network)
    before = [parameter.detach().clone() for parameter in classifier.module.parameters()]
    Trainer(classifier, config, seed=0).fit_epoch(1, make_pixels(8))
    moves = [
        (after - start).square().sum()
        for after, start in zip(classifier.module.parameters(), before, strict=True)
    ]
    assert math.sqrt(sum(move.item() for move in moves)) == pytest.approx(1e-3, rel=1e-3)


def test_a_diverged_loss_says_where_and_what_to_try(
    network: Network, make_pixels: MakePixels
) -> None:
    config = TrainingConfig(epochs=1, batch_size=8, learning_rate=1e30)
    with pytest.raises(
        TrainingDivergedError, match=r"epoch 1, step \d, learning rate 1e\+30.*Lower"
    ):
        Trainer(new_classifier(network), config, seed=0).fit_epoch(1, make_pixels(40))


def test_every_epoch_augments_differently() -> None:
    config = TrainingConfig(epochs=4, batch_size=6)
    grey = torch.full((6, 3, 8, 8), 100, dtype=torch.uint8)  # all alike, so order does not matter
    pixels = Pixels(grey.__getitem__, [0] * 6, ids=[*"abcdef"], size_px=8)
    seen: list[Tensor] = []

    def look(_: nn.Module, inputs: tuple[Tensor]) -> None:
        seen.append(inputs[0].mean(dim=(1, 2, 3)))

    classifier = new_classifier(linear_network)
    classifier.module.register_forward_pre_hook(look)
    trainer = Trainer(classifier, config, seed=0)
    for epoch in (1, 2, 1):
        trainer.fit_epoch(epoch, pixels)
    first, second, again = seen
    assert torch.equal(first, again)
    assert not torch.allclose(first, second, rtol=1e-2)


def test_training_always_runs_in_train_mode(network: Network, make_pixels: MakePixels) -> None:
    classifier = new_classifier(network)
    classifier.module.eval()
    Trainer(classifier, QUICK, seed=0).fit_epoch(1, make_pixels(16))
    assert classifier.module.state_dict()["1.num_batches_tracked"] == 2


def test_global_random_state_is_left_as_found(network: Network, make_pixels: MakePixels) -> None:
    torch.manual_seed(4)
    before = torch.get_rng_state()
    Trainer(new_classifier(network), QUICK, seed=0).fit_epoch(1, make_pixels(20))
    assert torch.equal(before, torch.get_rng_state())


def test_trainers_of_different_precision_live_in_one_process(
    network: Network, make_pixels: MakePixels
) -> None:
    def fitted(precision: str) -> Trainer:
        config = TrainingConfig(epochs=1, batch_size=8, mixed_precision=precision)
        trainer = Trainer(new_classifier(network), config, seed=0)
        trainer.fit_epoch(1, make_pixels(16))
        return trainer

    full, mixed, again = fitted("no"), fitted("bf16"), fitted("no")
    assert equal_states(full, again)
    assert not equal_states(full, mixed)
    assert all(value.dtype != torch.bfloat16 for value in mixed.state()[0].values())
    # the module's own forward is not patched: scoring stays in full precision
    assert "forward" not in vars(mixed.classifier.module)


def test_wrong_input_is_refused(network: Network, make_pixels: MakePixels) -> None:
    trainer = Trainer(new_classifier(network), QUICK, seed=0)
    with pytest.raises(DataError, match="at least 2 images, got 1"):
        trainer.fit_epoch(1, make_pixels(1))
    strange = make_pixels(6)
    strange.labels[4] = 3
    with pytest.raises(DataError, match="p4 has label 3"):
        trainer.fit_epoch(1, strange)


def test_a_state_of_another_classifier_is_refused(network: Network) -> None:
    trainer = Trainer(new_classifier(network), QUICK, seed=0)
    foreign = Trainer(new_classifier(linear_network), QUICK, seed=0)
    with pytest.raises(ModelError, match="another classifier"):
        trainer.load_state(*foreign.state())


def test_training_leaves_cudnn_in_use(make_pixels: MakePixels) -> None:
    seen = []

    class Watching(nn.Sequential):
        def forward(self, images_B3SS: Tensor) -> Tensor:
            seen.append((torch.backends.cudnn.enabled, torch.backends.cudnn.deterministic))
            logits_BC: Tensor = super().forward(images_B3SS)  # type: ignore[no-untyped-call]
            return logits_BC

    module = Watching(nn.Flatten(), nn.Linear(192, 3))
    classifier = Classifier.wrap(module, class_names=("red", "green", "blue"), size_px=8)
    Trainer(classifier, QUICK, seed=0).fit_epoch(1, make_pixels(8))
    assert set(seen) == {(True, True)}
