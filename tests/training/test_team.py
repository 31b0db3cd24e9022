"""Several processes train as one does: on the CPU, with gloo."""

from __future__ import annotations

import contextlib
import inspect
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers
from torch import Tensor, distributed, nn
from torch.nn import functional
from torch.nn.modules._functions import SyncBatchNorm

from gendataagent.config import TrainingConfig
from gendataagent.core.checkpoints import load_latest, save_checkpoint
from gendataagent.core.errors import (
    ConfigError,
    MemoryShortError,
    ModelError,
    TrainingDivergedError,
    TrainingProcessError,
)
from gendataagent.data.pixels import Pixels
from gendataagent.training.sharing import _SharedBatchNorm
from gendataagent.training.team import Team
from gendataagent.training.trainer import Trainer
from tests.children import earlier_children, own_children
from tests.tiny_networks import classifier_of, noisy_pixels, tiny_network

pytestmark = pytest.mark.integration

__all__ = ["earlier_children"]

QUICK = TrainingConfig(
    epochs=4,
    batch_size=7,
    learning_rate=0.05,
    warmup_epochs=1,
    mix="cutmix",
    randaugment_operations=1,
    gradient_clip=1.0,
    mixed_precision="no",
)


@contextlib.contextmanager
def team(processes: int) -> Iterator[Team]:
    with contextlib.closing(Team(processes, "cpu")) as them:
        yield them
    assert not own_children()
    assert not distributed.is_initialized()


def trainer(
    config: TrainingConfig = QUICK, partners: Team | None = None, module: nn.Module | None = None
) -> Trainer:
    return Trainer(classifier_of(module or tiny_network()), config, seed=3, partners=partners)


def losses(
    by: Trainer, epochs: range, real: Pixels, synthetic: Pixels | None = None
) -> list[float]:
    return [by.fit_epoch(epoch, real, synthetic).loss for epoch in epochs]


def load(into: Trainer, checkpoints: Path) -> None:
    found = load_latest(checkpoints)
    assert found is not None
    into.load_state(found.tensors, found.state)


def assert_equal_up_to_rounding(first: Trainer, second: Trainer, tolerance: float = 1e-4) -> None:
    (tensors, state), (others, other_state) = first.state(), second.state()
    assert state == other_state
    assert tensors.keys() == others.keys()
    for name, tensor in tensors.items():
        torch.testing.assert_close(others[name], tensor, rtol=tolerance, atol=tolerance, msg=name)


def test_two_processes_train_as_one_and_either_resumes_the_other(tmp_path: Path) -> None:
    """Uneven parts, an uneven last batch, mixing, RandAugment, BatchNorm, dropout, clipping."""
    real, synthetic = noisy_pixels(20), noisy_pixels(16, seed=1, prefix="s")
    assert (len(real) + len(synthetic)) % QUICK.batch_size == 1  # so the last batch has 8
    alone = trainer()
    expected = losses(alone, range(1, 5), real, synthetic)
    with team(2) as partners:
        together = trainer(partners=partners)
        shared = losses(together, range(1, 3), real, synthetic)
        save_checkpoint(tmp_path, 2, *together.state())
        shared += losses(together, range(3, 5), real, synthetic)
    assert shared == pytest.approx(expected, rel=1e-5)
    assert shared != expected  # rounding: two processes did take part
    assert_equal_up_to_rounding(alone, together)

    resumed = trainer(module=tiny_network(9))
    load(resumed, tmp_path)
    assert losses(resumed, range(3, 5), real, synthetic) == pytest.approx(expected[2:], rel=1e-5)
    assert_equal_up_to_rounding(alone, resumed)
    with team(2) as partners:
        again = trainer(partners=partners, module=tiny_network(9))
        load(again, tmp_path)
        assert losses(again, range(3, 5), real, synthetic) == shared[2:]  # to the bit


@pytest.mark.slow
def test_three_processes_with_batches_smaller_than_they_are_many() -> None:
    real = noisy_pixels(8)
    config = replace(QUICK, batch_size=6)  # batches of 6 and 2: the leader takes both images
    alone = trainer(config)
    expected = losses(alone, range(1, 3), real)
    with team(3) as partners:
        together = trainer(config, partners)
        assert losses(together, range(1, 3), real) == pytest.approx(expected, rel=1e-5)
    assert_equal_up_to_rounding(alone, together)


def timm_drop_path(features: Tensor) -> Tensor:
    """Stochastic depth as timm and torchvision write it."""
    return features * features.new_empty((len(features), 1)).bernoulli_(0.5)


class Odd(nn.Module):
    """Layers of all kinds: BatchNorm without weights, frozen, cumulative; an unused weight."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.convolution = nn.Conv2d(3, 4, 3)
            self.plain = nn.BatchNorm2d(4, affine=False, momentum=None)
            self.frozen = nn.BatchNorm2d(4)
            self.untracked = nn.BatchNorm1d(4, track_running_stats=False)
            self.drop = nn.Dropout2d(0.3)
            self.head = nn.Linear(4, 3)
            self.unused = nn.Linear(4, 4)
            self.fixed = nn.Parameter(torch.ones(4), requires_grad=False)

    def train(self, mode: bool = True) -> Odd:
        super().train(mode)
        self.frozen.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        inside = self.drop(self.frozen(self.plain(self.convolution(images))))
        features = self.untracked(functional.relu(inside).mean(dim=(2, 3)) * self.fixed)
        logits: Tensor = self.head(timm_drop_path(features))
        return logits


@pytest.mark.slow
def test_layers_of_all_kinds_in_bfloat16() -> None:
    real = noisy_pixels(14)
    config = replace(QUICK, mixed_precision="bf16", mix="mixup", weight_decay=0.1)
    alone = trainer(config, module=Odd())
    expected = losses(alone, range(1, 3), real)
    with team(2) as partners:
        together = trainer(config, partners, module=Odd())
        assert losses(together, range(1, 3), real) == pytest.approx(expected, rel=0.02)
    assert_equal_up_to_rounding(alone, together, 0.05)
    unused = trainer(module=Odd()).classifier.module.get_parameter("unused.weight")
    assert torch.equal(together.classifier.module.get_parameter("unused.weight"), unused)


@pytest.mark.slow
def test_dropout_and_stochastic_depth_of_a_transformer() -> None:
    config = transformers.SwinConfig(
        image_size=8, patch_size=1, embed_dim=8, depths=[1, 1], num_heads=[1, 2], window_size=4,
        num_labels=3, drop_path_rate=0.5, hidden_dropout_prob=0.2, attention_probs_dropout_prob=0.2,
        attn_implementation="eager",
    )  # fmt: skip

    def swin() -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network: nn.Module = transformers.SwinForImageClassification(config)
            return network

    real = noisy_pixels(20)
    alone = trainer(module=swin())
    expected = losses(alone, range(1, 4), real)
    with team(2) as partners:
        together = trainer(partners=partners, module=swin())
        assert losses(together, range(1, 4), real) == pytest.approx(expected, rel=1e-5)
    assert_equal_up_to_rounding(alone, together)


class FailsInHelper(nn.Module):
    """A network that raises, or ends its process, after two steps of a helper."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.inside, self.how, self.steps, self.home = tiny_network(), how, 0, os.getpid()

    def forward(self, images: Tensor) -> Tensor:
        self.steps += 1
        if os.getpid() != self.home and self.steps == 3:
            if self.how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.how == "memory":
                raise torch.OutOfMemoryError("CUDA out of memory")
            raise ValueError("only in a helper")
        logits: Tensor = self.inside(images)
        return logits


@pytest.mark.parametrize(
    ("how", "kind", "says"),
    [
        ("kill", TrainingProcessError, "SIGKILL"),
        pytest.param("memory", MemoryShortError, "training.batch_size", marks=pytest.mark.slow),
        pytest.param("error", ValueError, "only in a helper", marks=pytest.mark.slow),
    ],
)
def test_a_helper_that_fails_ends_all_with_its_reason(
    how: str, kind: type[Exception], says: str
) -> None:
    with team(2 if how == "kill" else 3) as partners:  # the third only loses its connection
        failing = trainer(partners=partners, module=FailsInHelper(how))
        with pytest.raises(kind, match=says) as raised:
            failing.fit_epoch(1, noisy_pixels(30))
        assert not own_children()
        if how == "error":
            assert "in forward" in "".join(raised.value.__notes__)
            healthy = trainer(partners=partners)
            assert healthy.fit_epoch(1, noisy_pixels(30)).optimizer_steps == 5  # new helpers


@pytest.mark.slow
def test_an_error_of_the_leader_ends_the_helpers() -> None:
    with team(2) as partners:
        diverging = trainer(replace(QUICK, learning_rate=1e30, gradient_clip=0), partners)
        with pytest.raises(TrainingDivergedError, match="learning_rate"):
            diverging.fit_epoch(2, noisy_pixels(30))
        assert not own_children()


@pytest.mark.slow
def test_processes_that_cannot_join_say_so_and_end(monkeypatch: pytest.MonkeyPatch) -> None:
    with team(2) as partners:
        monkeypatch.setenv("GLOO_SOCKET_IFNAME", "no-such-interface")
        with pytest.raises(TrainingProcessError, match=r"IFNAME.*training\.processes=1"):
            trainer(partners=partners).fit_epoch(1, noisy_pixels(8))
        monkeypatch.delenv("GLOO_SOCKET_IFNAME")
        assert trainer(partners=partners).fit_epoch(1, noisy_pixels(8)).optimizer_steps == 1


@pytest.mark.slow
def test_a_helper_that_ends_between_epochs_is_replaced() -> None:
    real = noisy_pixels(14)
    alone = trainer()
    expected = losses(alone, range(1, 3), real)
    with team(2) as partners:
        together = trainer(partners=partners)
        first = together.fit_epoch(1, real).loss
        (helper,) = own_children()
        helper.kill()
        helper.join()
        assert [first, together.fit_epoch(2, real).loss] == pytest.approx(expected, rel=1e-5)


def test_a_module_that_cannot_be_sent_and_a_group_of_the_caller(tmp_path: Path) -> None:
    unsendable = tiny_network()
    unsendable.hook = lambda: None  # type: ignore[assignment]
    with team(2) as partners, pytest.raises(ModelError, match=r"training\.processes=1"):
        trainer(partners=partners, module=unsendable).fit_epoch(1, noisy_pixels(8))
    distributed.init_process_group(
        "gloo", init_method=(tmp_path / "own").as_uri(), rank=0, world_size=1
    )
    try:
        with pytest.raises(ConfigError, match=r"training\.processes=1"):
            trainer(partners=Team(2, "cpu")).fit_epoch(1, noisy_pixels(8))
        assert distributed.is_initialized()  # the caller's group is the caller's
    finally:
        distributed.destroy_process_group()


LEADER = """
import multiprocessing, os, sys, time
from tests.tiny_networks import noisy_pixels
from tests.training.test_team import Team, trainer

if __name__ == "__main__":
    partners = Team(2, "cpu")
    def on_step(step, steps, loss):
        if step == 2:
            print(*[child.pid for child in multiprocessing.active_children()], flush=True)
            time.sleep(60)
    trainer(partners=partners).fit_epoch(1, noisy_pixels(40), on_step=on_step)
"""


def test_helpers_end_with_a_leader_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "leader.py"
    script.write_text(LEADER)
    root = Path(__file__).parents[2]
    path = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    with subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path, "TMPDIR": str(tmp_path)},
    ) as leader:
        assert leader.stdout is not None
        helpers = [int(pid) for pid in leader.stdout.readline().split()]
        assert len(helpers) == 1
        assert not list(tmp_path.glob("gendataagent-*"))  # it will not be able to remove it
        leader.kill()
        assert leader.stdout.read() == ""  # until the helper, which holds it too, has ended


def test_torchs_batch_norm_for_gpus_takes_the_same_arguments() -> None:
    """It is not public; on a GPU it is used instead of the one for CPUs."""
    assert [*inspect.signature(SyncBatchNorm.forward).parameters][1:8] == [
        *inspect.signature(_SharedBatchNorm.forward).parameters
    ][1:8]
