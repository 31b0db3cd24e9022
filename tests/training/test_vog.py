from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from gendataagent.core.errors import ModelError, ScoreError
from gendataagent.data.pixels import Pixels
from gendataagent.training import vog
from gendataagent.training.classifier import Classifier
from gendataagent.training.vog import true_class_input_gradients, variance_of_gradients

Snapshots = list[dict[str, Tensor]]


def changed(state: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: value + 0.3 * torch.rand(value.shape, generator=generator)
        if value.is_floating_point()
        else value
        for name, value in state.items()
    }


@pytest.fixture
def snapshots(
    classifier: Classifier, snapshot: Callable[[Classifier], dict[str, Tensor]]
) -> Snapshots:
    return [changed(snapshot(classifier), seed) for seed in range(3)]


@pytest.fixture
def pixels(make_pixels: Callable[..., Pixels]) -> Pixels:
    return make_pixels(11, seed=7)


def one_by_one(classifier: Classifier, state: dict[str, Tensor], pixels: Pixels) -> Tensor:
    """Return S [N, H, W] the slow way: load, eval, one image and one backward at a time."""
    module = classifier.module
    kept = {name: value.clone() for name, value in module.state_dict().items()}
    module.load_state_dict(state)
    module.eval()
    rows = []
    for index in range(len(pixels)):
        inputs = classifier.normalise(pixels.batch([index]).float() / 255).requires_grad_()
        module(inputs)[0, pixels.labels[index]].backward()
        assert inputs.grad is not None
        rows.append(inputs.grad[0].mean(dim=0))
    module.load_state_dict(kept)
    module.train()
    return torch.stack(rows)


def test_one_backward_equals_a_loop_over_images(
    classifier: Classifier, snapshots: Snapshots, pixels: Pixels
) -> None:
    images = pixels.batch(torch.arange(len(pixels))).float() / 255
    batched = true_class_input_gradients(classifier, images, pixels.labels, weights=snapshots[0])
    expected = one_by_one(classifier, snapshots[0], pixels)
    torch.testing.assert_close(batched, expected, atol=1e-7, rtol=1e-5)


def test_train_mode_would_give_other_gradients(classifier: Classifier, pixels: Pixels) -> None:
    images = pixels.batch(torch.arange(len(pixels))).float() / 255
    ours = true_class_input_gradients(classifier, images, pixels.labels)
    inputs = classifier.normalise(images).requires_grad_()
    logits = classifier.module.train()(inputs)
    (wrong,) = torch.autograd.grad(logits.gather(1, pixels.labels[:, None]).sum(), inputs)
    assert (ours - wrong.mean(dim=1)).abs().max() > 0.1 * ours.abs().max()


@pytest.mark.parametrize("at_a_time", [1000, 4])
def test_vog_equals_the_two_pass_formula(
    classifier: Classifier,
    snapshots: Snapshots,
    pixels: Pixels,
    at_a_time: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(vog, "ACCUMULATOR_BYTES", at_a_time * 2 * 4 * 8 * 8)
    scores = variance_of_gradients(classifier, iter(snapshots), pixels, batch_size=3)
    S_KNHW = torch.stack([one_by_one(classifier, state, pixels) for state in snapshots]).double()
    mu_NHW = S_KNHW.mean(dim=0)
    V_NHW = ((S_KNHW - mu_NHW) ** 2).mean(dim=0).sqrt()
    torch.testing.assert_close(scores.double(), V_NHW.mean(dim=(1, 2)), atol=1e-8, rtol=1e-4)
    assert scores.shape == (11,)
    assert scores.min() > 0


def test_equal_snapshots_give_0(
    classifier: Classifier, snapshots: Snapshots, pixels: Pixels
) -> None:
    scores = variance_of_gradients(classifier, [snapshots[1]] * 3, pixels)
    assert scores.abs().max() < 1e-7


def test_class_normalisation_centres_each_class_and_keeps_its_ranks(
    classifier: Classifier, snapshots: Snapshots, pixels: Pixels
) -> None:
    plain = variance_of_gradients(classifier, snapshots, pixels)
    z = variance_of_gradients(classifier, snapshots, pixels, class_normalised=True)
    for label in range(3):
        here = pixels.labels == label
        assert abs(z[here].mean()) < 1e-5
        assert z[here].std(correction=0) == pytest.approx(1, abs=1e-4)
        assert z[here].argsort().tolist() == plain[here].argsort().tolist()
    alone = Pixels(pixels.batch, pixels.labels[:1], ids=pixels.ids[:1], size_px=8)
    assert variance_of_gradients(classifier, snapshots, alone, class_normalised=True).tolist() == [
        0.0
    ]


def test_the_classifier_is_left_as_found(
    classifier: Classifier,
    snapshots: Snapshots,
    pixels: Pixels,
    snapshot: Callable[[Classifier], dict[str, Tensor]],
) -> None:
    module = classifier.module
    module.train()
    batch_norm = next(part for part in module.modules() if isinstance(part, nn.BatchNorm2d))
    batch_norm.eval()
    batch_norm.weight.requires_grad_(False)
    before = snapshot(classifier)
    modes = [part.training for part in module.modules()]
    frozen = [parameter.requires_grad for parameter in module.parameters()]
    variance_of_gradients(classifier, snapshots, pixels)
    after = module.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert [part.training for part in module.modules()] == modes
    assert [parameter.requires_grad for parameter in module.parameters()] == frozen
    assert all(parameter.grad is None for parameter in module.parameters())


def test_the_snapshots_themselves_do_not_change(
    classifier: Classifier, snapshots: Snapshots, pixels: Pixels
) -> None:
    copies = [{name: value.clone() for name, value in state.items()} for state in snapshots]
    variance_of_gradients(classifier, snapshots, pixels)
    for state, copy in zip(snapshots, copies, strict=True):
        assert all(torch.equal(state[name], copy[name]) for name in copy)


def test_it_works_inside_no_grad(
    classifier: Classifier, snapshots: Snapshots, pixels: Pixels
) -> None:
    with torch.no_grad():
        assert variance_of_gradients(classifier, snapshots, pixels).min() > 0


def test_not_finite_scores_name_the_images(
    classifier: Classifier, snapshots: Snapshots, pixels: Pixels
) -> None:
    snapshots[1]["0.weight"] = torch.full_like(snapshots[1]["0.weight"], float("nan"))
    with pytest.raises(ScoreError, match=r"11 of 11 images \(p0, p1, .* and 6 more\)"):
        variance_of_gradients(classifier, snapshots, pixels)


def test_too_few_or_foreign_snapshots_are_refused(
    classifier: Classifier, snapshots: Snapshots, pixels: Pixels
) -> None:
    with pytest.raises(ValueError, match="at least 2 snapshots, got 1"):
        variance_of_gradients(classifier, snapshots[:1], pixels)
    del snapshots[0]["0.weight"]
    with pytest.raises(ModelError, match="other weights"):
        variance_of_gradients(classifier, snapshots, pixels)


def test_no_images_give_no_scores(classifier: Classifier, snapshots: Snapshots) -> None:
    empty = Pixels(torch.empty((0, 3, 8, 8)).__getitem__, [], ids=[], size_px=8)
    assert variance_of_gradients(classifier, snapshots, empty).shape == (0,)
