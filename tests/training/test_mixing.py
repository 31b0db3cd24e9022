from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gendataagent.config import TrainingConfig
from gendataagent.training.mixing import Mixed, Mixer

SIDE = 16


def constant_images(count: int) -> Tensor:
    """Return images of one value each, 0, 1, 2...: what is whose can be read off."""
    return torch.arange(count).float()[:, None, None, None].expand(-1, 3, SIDE, SIDE).clone()


def mixer(mix: str, seed: int = 0, **settings: float) -> Mixer:
    found = Mixer.from_config(TrainingConfig(mix=mix, **settings), seed)  # type: ignore[arg-type]
    assert found is not None
    return found


def steps(made: Mixer, count: int = 200) -> list[Mixed]:
    return [made(constant_images(8)) for _ in range(count)]


def test_without_mixing_there_is_no_mixer() -> None:
    assert Mixer.from_config(TrainingConfig(), 0) is None


def test_mixup_blends_whole_images() -> None:
    for mixed in steps(mixer("mixup")):
        own = torch.arange(8.0)
        expected = mixed.own_share * own + (1 - mixed.own_share) * mixed.partner_B
        found = mixed.images_B3SS
        torch.testing.assert_close(found, expected[:, None, None, None].expand_as(found))


def test_cutmix_pastes_one_box_of_the_reported_share() -> None:
    shares = []
    for mixed in steps(mixer("cutmix")):
        own = torch.arange(8.0)[:, None, None, None]
        is_own = mixed.images_B3SS == own
        partner = mixed.partner_B.float()[:, None, None, None]
        assert (is_own | (mixed.images_B3SS == partner)).all()
        moved = mixed.partner_B != torch.arange(8)
        inside = ~is_own[moved][:, 0]
        if len(inside) and inside.any():
            assert (inside == inside[0]).all()  # the same box in every image
            rows, columns = inside[0].any(dim=1), inside[0].any(dim=0)
            assert inside[0].sum() == rows.sum() * columns.sum()  # a full rectangle
        if moved.any():
            assert is_own[moved].float().mean().item() == pytest.approx(mixed.own_share)
        shares.append(mixed.own_share)
    assert min(shares) < 0.4
    assert max(shares) > 0.95
    assert all(0 <= share <= 1 for share in shares)


@pytest.mark.parametrize("mix", ["mixup", "cutmix"])
def test_labels_are_divided_like_the_images(mix: str) -> None:
    targets = torch.eye(8)
    for mixed in steps(mixer(mix), 30):
        divided = mixed.divide(targets)
        torch.testing.assert_close(divided.sum(dim=1), torch.ones(8))
        # value of an image = its number, so its mean must be that of the soft label
        means = mixed.images_B3SS.mean(dim=(1, 2, 3))
        torch.testing.assert_close(divided @ torch.arange(8.0), means, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("mix", ["mixup", "cutmix"])
def test_the_seed_alone_decides(mix: str) -> None:
    def shares(seed: int) -> list[float]:
        return [mixed.own_share for mixed in steps(mixer(mix, seed), 20)]

    torch.manual_seed(0)
    first = shares(1)
    torch.manual_seed(1)
    assert first == shares(1) != shares(2)


def test_a_share_of_the_steps_mixes_and_the_others_are_left_alone() -> None:
    made = steps(mixer("mixup", mix_probability=0.5), 400)
    untouched = [m for m in made if torch.equal(m.images_B3SS, constant_images(8))]
    assert 160 < len(untouched) < 240
    assert all(m.own_share == 1.0 for m in untouched)
    mixing = [m.own_share for m in steps(mixer("mixup"), 400)]
    still = [m.own_share for m in made if m.own_share < 1]
    assert set(still) <= set(mixing)  # skipping a step shifts no later draw


def test_alpha_says_how_even_the_blend_is() -> None:
    def middling(alpha: float) -> int:
        return sum(0.3 < m.own_share < 0.7 for m in steps(mixer("mixup", mix_alpha=alpha), 400))

    assert middling(0.2) < 90 < 130 < middling(1.0) < 190 < 330 < middling(8.0)


def test_the_input_is_unchanged() -> None:
    for mix in ("mixup", "cutmix"):
        images = constant_images(8)
        mixer(mix)(images)
        assert torch.equal(images, constant_images(8))
