"""Real and synthetic images as one data set, by epoch, and its callbacks in other trainers."""

from __future__ import annotations

import contextlib
import pickle
from collections import Counter
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader
from transformers import (
    ResNetConfig,
    ResNetForImageClassification,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from gendataagent import RealAndSynthetic
from gendataagent.agent import real_and_synthetic
from gendataagent.agent.by_hand.rules import DROP
from gendataagent.core.errors import ConfigError, DataError, RunFolderError
from gendataagent.core.run_folder import RunFolder
from tests.agent.test_by_hand import decide
from tests.agent.test_own_loop import InMemory, network, opened, rows, to_tensor

EPOCHS = 4  # `opened` runs rounds before the epochs 1 and 2


def both_of(folder: Path, train_set: Any = None, **options: Any) -> RealAndSynthetic:
    train_set = InMemory() if train_set is None else train_set
    length = options.pop("epoch_images", None)
    return RealAndSynthetic(opened(train_set, folder, **options), train_set, epoch_images=length)


def key(item: Any) -> bytes:
    """Return what tells an item (image tensor, label) from others."""
    return bytes(item[0].numpy().tobytes())


REAL = {key(item): index for index, item in enumerate(InMemory()[i] for i in range(12))}


def drawn(both: RealAndSynthetic) -> list[int]:
    """Return the real images of an epoch in order, -1 for each synthetic one."""
    return [REAL.get(key(both[i]), -1) for i in range(len(both))]


def test_an_epoch_has_a_constant_length_and_each_image_at_most_once(tmp_path: Path) -> None:
    both = both_of(tmp_path / "run")
    both.begin_epoch(network(), 0)
    assert sorted(drawn(both)) == list(range(12))
    synthetic = both.begin_epoch(network(), 1)
    assert len(synthetic) == 12
    assert synthetic is both.synthetic
    counted = Counter(drawn(both))
    assert counted[-1] > 0
    assert all(count == 1 for index, count in counted.items() if index >= 0)
    assert len(both) == len(DataLoader(both, 1)) == 12


def test_a_longer_epoch_has_every_image(tmp_path: Path) -> None:
    both = both_of(tmp_path / "run", epoch_images=24)
    both.begin_epoch(network(), 0)
    assert Counter(drawn(both)) == Counter([*range(12)] * 2)
    both.begin_epoch(network(), 1)
    assert Counter(drawn(both)) == Counter([*range(12), *[-1] * 12])


def test_siblings_take_the_place_of_their_sources(tmp_path: Path) -> None:
    both = both_of(tmp_path / "run", training={"sibling_replacement": 0.7})
    both.begin_epoch(network(), 0)
    assert sorted(drawn(both)) == list(range(12))
    made = both.begin_epoch(network(), 1)
    source_of = {key(made[i]): c.source_id for i, c in enumerate(made.candidates)}
    ids = opened(InMemory(), tmp_path / "other").images.ids
    drawn_as = [key(both[i]) for i in range(12)]
    assert 0 < sum(item in source_of for item in drawn_as) < 12
    assert sorted(source_of[k] if k in source_of else ids[REAL[k]] for k in drawn_as) == sorted(ids)


def test_a_fixed_share_of_an_epoch_is_synthetic(tmp_path: Path) -> None:
    both = both_of(tmp_path / "run", training={"synthetic_share": 0.25})
    both.begin_epoch(network(), 0)
    assert drawn(both).count(-1) == 0
    both.begin_epoch(network(), 1)
    assert drawn(both).count(-1) == 3


def test_a_soft_label_is_drawn_by_its_share(tmp_path: Path) -> None:
    soft = {"prompt_class": "other", "soft_label_gamma": 1.0, "strength": 0.5}
    both = both_of(tmp_path / "run", generation=soft, epoch_images=24)
    both.begin_epoch(network(), 0)
    both[0]
    as_source = Counter[bool]()
    for epoch in (1, 2, 3):
        made = both.begin_epoch(network(), epoch)
        items = [both[i] for i in range(24)]
        for item, position in zip(items, both._order_L.tolist(), strict=True):
            if position >= 12:
                candidate = made.candidates[position - 12]
                source = made.class_names.index(str(candidate.source_class))
                assert candidate.label_share == 0.5
                assert key(item) == key(made[position - 12])
                assert int(item[1]) in (candidate.label, source)
                as_source[int(item[1]) == source] += 1
        worker = pickle.loads(ForkingPickler.dumps(both))
        assert [int(worker[i][1]) for i in range(24)] == [int(item[1]) for item in items]
    assert min(as_source[True], as_source[False]) > 9  # of 36


def test_a_resumed_epoch_has_the_same_images(tmp_path: Path) -> None:
    both = both_of(tmp_path / "run")
    epochs = []
    for epoch in range(EPOCHS):
        both.begin_epoch(network(), epoch)
        epochs.append([key(both[i]) for i in range(12)])
    assert epochs[2] != epochs[3]
    again = both_of(tmp_path / "run")
    again.begin_epoch(network(), 3)
    assert [key(again[i]) for i in range(12)] == epochs[3]


@pytest.mark.parametrize(
    ("persistent", "start"),
    [
        *((False, None), (True, None)),
        pytest.param(True, "spawn", marks=pytest.mark.slow),
        pytest.param(True, "forkserver", marks=pytest.mark.slow),
    ],
)
def test_workers_follow_each_epoch(persistent: bool, start: str | None, tmp_path: Path) -> None:
    both = both_of(tmp_path / "run")
    loader = DataLoader(
        both, 3, num_workers=1, persistent_workers=persistent, multiprocessing_context=start
    )
    read = iter(loader)  # Lightning starts the workers before the first epoch
    both.begin_epoch(network(), 0)
    for epoch in range(3):
        if epoch:
            both.begin_epoch(network(), epoch)
            read = iter(loader)
        images = [image for batch in read for image in batch[0]]
        assert [key((image,)) for image in images] == [key(both[i]) for i in range(12)]


def test_what_a_worker_gets_has_no_model_and_follows(tmp_path: Path) -> None:
    both = both_of(tmp_path / "run")
    both.begin_epoch(network(), 0)
    copy: RealAndSynthetic = pickle.loads(ForkingPickler.dumps(both))
    assert drawn(copy) == drawn(both)
    both.begin_epoch(network(), 1)
    assert drawn(copy) == drawn(both)
    with pytest.raises(ConfigError, match="not for its workers"):
        copy.begin_epoch(network(), 2)


def test_a_worker_has_the_decisions_by_hand_of_its_epoch(tmp_path: Path) -> None:
    both = both_of(tmp_path / "run", epoch_images=24)
    both.begin_epoch(network(), 1)
    drawn(both)
    synthetic = both.begin_epoch(network(), 2)
    worker: RealAndSynthetic = pickle.loads(ForkingPickler.dumps(both))
    first, second = synthetic.ids[:2]
    decide(RunFolder(tmp_path / "run"), DROP, first)
    assert drawn(worker) == drawn(both)
    both.begin_epoch(network(), 3)
    decide(RunFolder(tmp_path / "run"), DROP, second)
    assert drawn(worker) == drawn(both)
    assert worker.synthetic.ids == both.synthetic.ids == synthetic.ids[1:]


def test_a_loop_without_begin_epoch_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = both_of(tmp_path / "run")
    with pytest.raises(ConfigError, match=r"no epoch has begun: give your trainer the callback"):
        both[0]
    monkeypatch.setattr(real_and_synthetic, "FIRST_EPOCH_WITHIN_S", 0)
    with pytest.raises(ConfigError, match="no epoch has begun"):
        next(iter(DataLoader(both, 3, num_workers=1)))


def test_no_item_is_given_after_a_round_that_failed(tmp_path: Path) -> None:
    both = both_of(tmp_path / "run", first_round_epoch=0)

    class Failing(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            raise ArithmeticError("a broken model")

    with pytest.raises(ArithmeticError, match="a broken model"):
        both.begin_epoch(Failing(), 0)
    with pytest.raises(ConfigError, match="no epoch has begun"):
        both[0]


def test_a_trainer_that_does_not_read_the_set_is_refused(tmp_path: Path) -> None:
    both = both_of(tmp_path / "run")
    both.begin_epoch(network(), 0)
    with pytest.raises(ConfigError, match="no image of this data set was read in the last epoch"):
        both.begin_epoch(network(), 1)


def test_other_sets_lengths_and_launchers_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = opened(InMemory(), tmp_path / "run")
    with pytest.raises(DataError, match="train_set has 3 images, the agent was opened with 12"):
        RealAndSynthetic(agent, [1, 2, 3])
    with pytest.raises(ConfigError, match="epoch_images must be at least 1, got 0"):
        RealAndSynthetic(agent, InMemory(), epoch_images=0)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="2 processes train together"):
        RealAndSynthetic(agent, InMemory())


class Shifted(InMemory):
    """The same images, their classes in another order."""

    def __init__(self, by: int, named: bool = True) -> None:
        super().__init__()
        self._by = by
        if named:
            self.classes = [self.classes[(label - by) % 3] for label in range(3)]
        else:
            del self.classes

    def __getitem__(self, index: int) -> Any:
        image, label = super().__getitem__(index)
        return image, (label + self._by) % 3


class Unbalanced(InMemory):
    def __getitem__(self, index: int) -> Any:
        image, label = super().__getitem__(index)
        return image, 0 if index == 1 else label


def test_a_set_whose_labels_mean_other_classes_is_refused(tmp_path: Path) -> None:
    agent = opened(InMemory(), tmp_path / "run")
    with pytest.raises(DataError, match=r"train_set has the classes .*in this order"):
        RealAndSynthetic(agent, Shifted(1))
    with pytest.raises(DataError, match=r"train_set has 5 images of '\w+', .* with 4"):
        RealAndSynthetic(agent, Unbalanced())
    for same in (InMemory(), InMemory(None), Shifted(0, named=False)):
        RealAndSynthetic(agent, same)


@pytest.mark.parametrize("name", ["RANK", "LOCAL_RANK"])
def test_a_second_process_of_a_launcher_makes_no_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.raises(ConfigError, match="this is process 2 of a launcher; a loop of your own"):
        opened(InMemory(), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    monkeypatch.setenv(name, "0")
    opened(InMemory(), tmp_path / "run")


def test_a_transform_is_for_both_kinds_of_images(tmp_path: Path) -> None:
    plain = both_of(tmp_path / "run", InMemory(transform=None), size_px=16)
    plain.transform = to_tensor
    plain.begin_epoch(network(), 1)
    assert {plain[i][0].shape for i in range(12)} == {(3, 16, 16)}
    with_rows = both_of(tmp_path / "rows", rows())
    with_rows.transform = to_tensor
    with_rows.begin_epoch(network(), 0)
    with pytest.raises(ConfigError, match="give that a transform"):
        with_rows[0]


def test_model_and_random_state_are_left_as_found(tmp_path: Path) -> None:
    both, model = both_of(tmp_path / "run"), network()
    next(m for m in model.modules() if isinstance(m, nn.BatchNorm2d)).eval()
    modes = [module.training for module in model.modules()]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    both.begin_epoch(model, 1)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_training_continued_in_another_folder_is_refused(tmp_path: Path) -> None:
    both = both_of(tmp_path / "new")
    with pytest.raises(RunFolderError, match="the round due after 1 epochs has not finished"):
        both.begin_epoch(network(), 2)
    late = {"first_round_epoch": 3, "rounds": 1, "filter": {"drop_share": 0.2}}
    snapshots = both_of(tmp_path / "snapshots", **late)
    with pytest.raises(RunFolderError, match=r"after 2 epochs, but .*epoch-0001.*missing"):
        snapshots.begin_epoch(network(), 2)


def test_a_snapshot_is_told_once(tmp_path: Path) -> None:
    late = {"first_round_epoch": 3, "rounds": 1, "filter": {"drop_share": 0.2}}
    both = both_of(tmp_path / "run", **late)
    for epoch in range(EPOCHS):
        both.begin_epoch(network(), epoch)
        both[0]
    written = sorted((tmp_path / "run" / "snapshots").glob("epoch-*"))
    assert [path.stem for path in written] == ["epoch-0001", "epoch-0002", "epoch-0003"]
    assert 0 < len(both.synthetic) < 24
    times = [path.stat().st_mtime_ns for path in written]
    with pytest.warns(UserWarning, match="holds 1 finished rounds: their images are used again"):
        both_of(tmp_path / "run", **late).begin_epoch(network(), 0)
    both_of(tmp_path / "run", **late).begin_epoch(network(), 2)
    assert [path.stat().st_mtime_ns for path in written] == times


# transformers.Trainer


def resnet() -> ResNetForImageClassification:
    torch.manual_seed(0)
    return ResNetForImageClassification(
        ResNetConfig(embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], num_labels=3)
    )


def shown() -> Any:
    """Rows as a fine-tuning script makes them."""

    def transform(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        return {
            "pixel_values": [to_tensor(image) for image in batch["img"]],
            "labels": batch["fine_label"],
        }

    return rows().with_transform(transform)


class StopAt(TrainerCallback):  # type: ignore[misc]
    """Ends the process, so to speak, at a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            raise KeyboardInterrupt


def hf_trainer(folder: Path, both: RealAndSynthetic, *more: Any, **options: Any) -> Trainer:
    given = {
        "num_train_epochs": EPOCHS, "per_device_train_batch_size": 4, "learning_rate": 0.01,
        "save_strategy": "steps", "save_steps": 1, "report_to": "none", "use_cpu": True,
        "disable_tqdm": True, "remove_unused_columns": False, "logging_strategy": "no",
    }  # fmt: skip
    arguments = TrainingArguments(str(folder), **{**given, **options})
    callbacks = [both.transformers_callback(), *more]
    return Trainer(
        resnet(), arguments, train_dataset=both, eval_dataset=shown(), callbacks=callbacks
    )


def rows_both(folder: Path, **options: Any) -> RealAndSynthetic:
    given = {"size_px": 16, "mean": (0, 0, 0), "std": (1, 1, 1), **options}
    return both_of(folder, shown(), **given)


def test_trainer_trains_on_the_images_of_each_round(tmp_path: Path) -> None:
    both = rows_both(tmp_path / "run")
    seen: list[int] = []

    class Count(TrainerCallback):  # type: ignore[misc]
        def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            seen.append(len(both.synthetic))

    trainer = hf_trainer(tmp_path / "out", both, Count(), save_strategy="no", eval_strategy="epoch")
    trainer.train()
    assert trainer.state.max_steps == trainer.state.global_step == 12
    assert seen == [0, 12, 12, 12]
    assert sum("eval_loss" in line for line in trainer.state.log_history) == EPOCHS


@pytest.mark.parametrize("stopped_at", [3, 7], ids=["at an epoch", "within an epoch"])
def test_a_resumed_trainer_ends_with_the_same_weights(stopped_at: int, tmp_path: Path) -> None:
    whole = hf_trainer(tmp_path / "whole", rows_both(tmp_path / "a"), save_strategy="no")
    whole.train()
    stopped = hf_trainer(tmp_path / "out", rows_both(tmp_path / "b"), StopAt(stopped_at + 1))
    with pytest.raises(KeyboardInterrupt):
        stopped.train()
    assert (tmp_path / "out" / f"checkpoint-{stopped_at}").is_dir()
    resumed = hf_trainer(tmp_path / "out", rows_both(tmp_path / "b"))
    resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == 12
    weights = resumed.model.state_dict()
    assert all(torch.equal(v, weights[name]) for name, v in whole.model.state_dict().items())


def test_a_trainer_with_another_plan_or_folder_is_refused(tmp_path: Path) -> None:
    both = rows_both(tmp_path / "run")
    with pytest.raises(ConfigError, match=r"trains 3 epochs, the agent plans .* for 4.*epochs=3"):
        hf_trainer(tmp_path / "out", both, max_steps=8).train()
    hf_trainer(tmp_path / "out", both, save_strategy="epoch").train()
    other = hf_trainer(tmp_path / "out", rows_both(tmp_path / "other"))
    with pytest.raises(RunFolderError, match="Open the agent in the folder with which"):
        other.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-9"))


# Lightning


def lightning() -> Any:
    return pytest.importorskip("lightning", reason="pip install lightning")


def fit(
    folder: Path, both: RealAndSynthetic, *more: Any, workers: int = 0, **options: Any
) -> tuple[Any, list[int]]:
    """Return the trained module, and how many images of each epoch were synthetic."""
    library = lightning()
    seen: list[int] = []

    class Module(library.LightningModule):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.network = network()

        def on_train_epoch_start(self) -> None:
            seen.append(0)

        def training_step(self, batch: Any, index: int) -> torch.Tensor:
            if not seen:
                seen.append(0)
            seen[-1] += sum(key((image,)) not in REAL for image in batch[0])
            assert self.network.training
            return nn.functional.cross_entropy(self.network(batch[0]), batch[1])

        def validation_step(self, batch: Any, index: int) -> None:
            self.log("loss", nn.functional.cross_entropy(self.network(batch[0]), batch[1]))

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    given = {"max_epochs": EPOCHS, "accelerator": "cpu", "logger": False, **options}
    checkpoint = given.pop("ckpt_path", None)
    given.setdefault("enable_checkpointing", False)
    trainer = library.Trainer(
        default_root_dir=folder, enable_progress_bar=False, enable_model_summary=False,
        callbacks=[both.lightning_callback(lambda module: module.network), *more], **given,
    )  # fmt: skip
    module = Module()
    loader = DataLoader(both, 4, shuffle=True, num_workers=workers)
    with contextlib.suppress(SystemExit):  # with which Lightning ends after Ctrl-C
        trainer.fit(module, loader, DataLoader(InMemory(), 4), ckpt_path=checkpoint)
    return module, seen


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.filterwarnings("ignore")
def test_lightning_trains_on_the_images_of_each_round(workers: int, tmp_path: Path) -> None:
    both = both_of(tmp_path / "run", first_round_epoch=0, epoch_images=24)
    _, seen = fit(tmp_path / "out", both, workers=workers)
    assert seen == [12, 12, 12, 12]


@pytest.mark.parametrize("stopped_at", [3, 4, 6, 7])
@pytest.mark.filterwarnings("ignore")
def test_a_resumed_lightning_trainer_goes_on_with_the_right_epoch(
    stopped_at: int, tmp_path: Path
) -> None:
    callbacks = lightning().pytorch.callbacks

    class StopAfter(lightning().Callback):  # type: ignore[misc]
        def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
            if trainer.global_step == stopped_at:
                raise KeyboardInterrupt

    saving = callbacks.ModelCheckpoint(
        tmp_path / "saved", every_n_train_steps=1, save_top_k=-1, filename="{step}"
    )
    first = both_of(tmp_path / "run")
    fit(tmp_path / "out", first, saving, StopAfter(), enable_checkpointing=True)
    checkpoint = tmp_path / "saved" / f"step={stopped_at}.ckpt"
    assert checkpoint.is_file()
    begun: list[int] = []
    both = both_of(tmp_path / "run")
    begin_epoch = both.begin_epoch

    def noted(model: nn.Module, epoch: int) -> Any:
        if epoch not in begun:
            begun.append(epoch)
        return begin_epoch(model, epoch)

    both.begin_epoch = noted  # type: ignore[method-assign]
    fit(tmp_path / "out", both, ckpt_path=checkpoint)
    assert begun == list(range(stopped_at // 3, EPOCHS))


@pytest.mark.filterwarnings("ignore")
def test_a_lightning_trainer_with_another_plan_is_refused(tmp_path: Path) -> None:
    both = both_of(tmp_path / "run")
    with pytest.raises(ConfigError, match=r"trains 7 epochs.*Agent.open\(\.\.\., epochs=7\)"):
        fit(tmp_path / "out", both, max_epochs=7)
    with pytest.raises(ConfigError, match=r"has no number of epochs.*set it to 4"):
        fit(tmp_path / "out", both, max_epochs=-1)


def test_two_processes_of_a_trainer_are_refused(tmp_path: Path) -> None:
    callback = rows_both(tmp_path / "run").transformers_callback()

    class Two:
        world_size = 2

    with pytest.raises(ConfigError, match="2 processes train together"):
        callback.on_train_begin(Two(), None, None)
