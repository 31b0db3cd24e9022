from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gendataagent.core.errors import DataError, ModelError, ScoreError
from gendataagent.data.pixels import Pixels
from gendataagent.training.classifier import Classifier

MakePixels = Callable[..., Pixels]


def test_images_are_normalised_per_channel() -> None:
    module = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    classifier = Classifier.wrap(
        module, class_names=("a", "b", "c"), size_px=2, mean=(0.5, 0.25, 0), std=(0.5, 0.25, 2)
    )
    assert classifier.logits(torch.ones((1, 3, 2, 2))).tolist() == [[1.0, 3.0, 0.5]]


def test_an_output_with_logits_is_accepted() -> None:
    class Wrapped(nn.Module):
        def forward(self, images: Tensor) -> Any:
            return SimpleNamespace(logits=images.mean(dim=(2, 3)))

    classifier = Classifier.wrap(
        Wrapped(), class_names=("a", "b", "c"), size_px=2, mean=(0, 0, 0), std=(1, 1, 1)
    )
    assert classifier.logits(torch.ones((2, 3, 2, 2))).shape == (2, 3)


def test_a_head_of_another_width_is_refused(classifier: Classifier) -> None:
    narrow = Classifier.wrap(classifier.module, class_names=("a", "b"), size_px=8)
    with pytest.raises(ModelError, match=r"\(1, 3\), expected \(1, 2\)"):
        narrow.logits(torch.zeros((1, 3, 8, 8)))


def test_probabilities_are_those_of_eval_mode_at_any_batch_size(
    classifier: Classifier, make_pixels: MakePixels
) -> None:
    pixels = make_pixels(11)
    probabilities = classifier.predict_probabilities(pixels, batch_size=4)
    classifier.module.eval()
    with torch.no_grad():
        logits = classifier.logits(pixels.batch(torch.arange(11)).float() / 255)
    torch.testing.assert_close(probabilities, logits.softmax(dim=1), atol=1e-6, rtol=0)
    torch.testing.assert_close(
        probabilities, classifier.predict_probabilities(pixels, batch_size=256), atol=1e-6, rtol=0
    )


def test_larger_images_are_cropped_to_their_centre(
    classifier: Classifier, make_pixels: MakePixels
) -> None:
    large = make_pixels(4, side=10)
    small = Pixels(
        large.batch(torch.arange(4), crop_px=8).__getitem__, large.labels, ids=large.ids, size_px=8
    )
    assert torch.equal(classifier.predict_logits(large), classifier.predict_logits(small))


def test_features_are_what_the_head_sees(classifier: Classifier, make_pixels: MakePixels) -> None:
    pixels = make_pixels(5)
    features = classifier.features(pixels, batch_size=2)
    assert features.shape == (5, 24)
    head = classifier.head()
    torch.testing.assert_close(
        features @ head.weight.T.detach() + head.bias.detach(), classifier.predict_logits(pixels)
    )
    assert not head._forward_pre_hooks


def test_features_need_a_linear_layer(make_pixels: MakePixels) -> None:
    module = nn.Sequential(nn.Conv2d(3, 3, 8), nn.Flatten())
    classifier = Classifier.wrap(module, class_names=("a", "b", "c"), size_px=8)
    with pytest.raises(ModelError, match="no linear layer"):
        classifier.features(make_pixels(2))


def test_an_empty_set_gives_empty_results(classifier: Classifier) -> None:
    empty = Pixels(torch.empty((0, 3, 8, 8)).__getitem__, [], ids=[], size_px=8)
    assert classifier.predict_probabilities(empty).shape == (0, 3)
    assert classifier.features(empty).shape == (0, 24)


def test_inference_restores_modes_and_frozen_parameters(classifier: Classifier) -> None:
    module = classifier.module
    module.train()
    parts = list(module.modules())
    parts[2].eval()
    first = next(module.parameters())
    first.requires_grad_(False)
    modes = [part.training for part in parts]
    frozen = [parameter.requires_grad for parameter in module.parameters()]

    def fail() -> None:
        with classifier.inference():
            assert not any(part.training for part in parts)
            assert not any(parameter.requires_grad for parameter in module.parameters())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert [part.training for part in parts] == modes
    assert [parameter.requires_grad for parameter in module.parameters()] == frozen


def test_scoring_changes_no_weights(
    classifier: Classifier,
    make_pixels: MakePixels,
    snapshot: Callable[[Classifier], dict[str, Tensor]],
) -> None:
    classifier.module.train()
    before = snapshot(classifier)
    classifier.predict_probabilities(make_pixels(9))
    classifier.features(make_pixels(9))
    after = classifier.module.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_not_finite_output_names_the_images(
    classifier: Classifier, make_pixels: MakePixels
) -> None:
    classifier.head().bias.data[1] = float("inf")
    with pytest.raises(ScoreError, match=r"7 of 7 images \(p0, p1, p2, p3, p4 and 2 more\)"):
        classifier.predict_probabilities(make_pixels(7))


def test_a_label_without_a_class_is_refused(
    classifier: Classifier, make_pixels: MakePixels
) -> None:
    pixels = make_pixels(4)
    pixels.labels[2] = -1
    with pytest.raises(DataError, match="p2 has label -1, but there are 3 classes"):
        classifier.predict_logits(pixels)
