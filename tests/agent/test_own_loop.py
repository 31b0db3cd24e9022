"""`Agent.open`, `ask` and `tell` in a training loop of the user's own."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset

from gendataagent import Agent, Backends, Classifier, RunConfig
from gendataagent.agent.synthetic import SyntheticImages
from gendataagent.core.errors import ConfigError, DataError, ModelError, RunFolderError
from gendataagent.core.protocols import (
    CaptionRequest,
    ImageGenerator,
    Rendered,
    RenderRequest,
    Rewrite,
    RewriteRequest,
)
from gendataagent.core.records import ModelDescription
from gendataagent.data import load_data
from gendataagent.generation.executors import SerialExecutor

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "own-loop.md"
SIZE_PX = 16
CLASSES = ["cat", "dog", "ship"]


class Darker:
    """A captioner, rewriter and generator that needs no model."""

    description = ModelDescription(name="darker", revision="1")

    def __init__(self) -> None:
        self.sources: list[str] = []

    def caption(self, requests: list[CaptionRequest]) -> list[str]:
        return ["grey"] * len(requests)

    def rewrite(self, requests: list[RewriteRequest]) -> list[tuple[Rewrite, ...]]:
        return [tuple(Rewrite(text=f"grey {seed % 9}") for seed in r.seeds) for r in requests]

    def render(self, requests: list[RenderRequest]) -> list[Rendered]:
        return [Rendered(image=r.source.point(lambda value: value // 2 + 20)) for r in requests]

    def release(self) -> None:
        return None

    def describe(self) -> ModelDescription:
        return self.description

    def __call__(self) -> ImageGenerator:
        return self  # type: ignore[return-value]


def darker() -> Backends:
    part: Any = Darker()
    return Backends(captioner=part, rewriter=part, generator=part, executor=SerialExecutor())


def to_tensor(image: Image.Image) -> torch.Tensor:
    values = torch.from_numpy(np.array(image.resize((SIZE_PX, SIZE_PX)).convert("RGB")))
    return values.permute(2, 0, 1).float() / 255


def noise_image(number: int) -> Image.Image:
    values = np.random.default_rng(number).integers(0, 256, (SIZE_PX, SIZE_PX, 3), dtype=np.uint8)
    return Image.fromarray(values)


class InMemory(Dataset[Any]):
    def __init__(self, transform: Callable[[Any], Any] | None = to_tensor) -> None:
        self.transform, self.classes = transform, CLASSES

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> Any:
        image = noise_image(index)
        return (image if self.transform is None else self.transform(image)), index % 3


def rows() -> datasets.Dataset:
    data = {
        "img": [noise_image(i) for i in range(12)],
        "coarse": [i % 2 for i in range(12)],
        "fine_label": [i % 3 for i in range(12)],
        "id": [f"n{i}" for i in range(12)],
    }
    features = datasets.Features(
        {
            "img": datasets.Image(),
            "coarse": datasets.Value("int64"),
            "fine_label": datasets.ClassLabel(names=CLASSES),
            "id": datasets.Value("string"),
        }
    )
    return datasets.Dataset.from_dict(data, features=features)


def network(classes: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.AdaptiveAvgPool2d(2),
        nn.Flatten(), nn.Linear(16, classes),
    )  # fmt: skip


def opened(train_set: Any, out: Path, **options: Any) -> Agent:
    settings: dict[str, Any] = {
        "epochs": 4, "rounds": 2, "first_round_epoch": 1, "rewrites": 2, "release_models": "never",
        "selection": {"share": 0.5}, "filter": {"drop_share": 0.0}, "backends": darker(),
    }  # fmt: skip
    return Agent.open(train_set, out=out, **{**settings, **options})


def snippet() -> str:
    text = DOCUMENT.read_text(encoding="utf-8")
    blocks = re.findall(r"(?:^(?: {4}.*)?\n)+", text, re.M)
    (found,) = [block for block in blocks if "agent.ask" in block]
    return textwrap.dedent(str(found))


def in_torch(photos: Path) -> Any:
    images = load_data(photos).train

    class Photos(Dataset[Any]):
        classes, transform = list(images.class_names), staticmethod(to_tensor)

        def __len__(self) -> int:
            return len(images)

        def __getitem__(self, index: int) -> Any:
            return self.transform(images.image(index)), images.labels[index]

    return Photos()


def in_rows(photos: Path) -> Any:
    def tensors(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        return {"pixels": [to_tensor(i) for i in batch["image"]], "label": batch["label"]}

    return load_data(photos).train.to_datasets().with_transform(tensors)


@pytest.mark.parametrize("train_set_of", [in_torch, in_rows])
def test_the_snippet_of_the_docs_runs(
    train_set_of: Callable[[Path], Any], photo_folder: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """With the bundled generator and fewer epochs; `train_one_epoch` is the user's own."""
    code = snippet().replace("stable-diffusion-v1-5/stable-diffusion-v1-5", "tiny-sd")
    code = code.replace("epochs=40", "epochs=3").replace("range(40)", "range(3)")
    code = code.replace("rounds=5", "rounds=1, first_round_epoch=1, num_inference_steps=2")
    seen: list[int] = []

    def train_one_epoch(model: nn.Module, loader: DataLoader[Any]) -> None:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        seen.append(0)
        for batch in loader:
            pair = batch.values() if isinstance(batch, dict) else batch
            images, labels = pair
            nn.functional.cross_entropy(model(images), labels).backward()
            optimizer.step()
            seen[-1] += len(labels)

    monkeypatch.chdir(tmp_path)
    names = {
        "train_set": train_set_of(photo_folder), "model": network(), "DataLoader": DataLoader,
        "ConcatDataset": ConcatDataset, "train_one_epoch": train_one_epoch,
    }  # fmt: skip
    with pytest.warns(UserWarning, match="2 of your 3 classes are among the 10 that tiny-sd"):
        exec(compile(code, str(DOCUMENT), "exec"), names)
    synthetic: Any = names["synthetic"]
    assert len(synthetic) > 0
    assert seen == [24, 24 + len(synthetic), 24 + len(synthetic)]
    kept = datasets.load_from_disk("kept")
    assert list(kept["id"]) == list(synthetic.ids)
    assert kept.features["label"].names == list(synthetic.class_names)


def test_ask_gives_items_like_those_of_a_torch_set(tmp_path: Path) -> None:
    train_set = InMemory()
    agent = opened(train_set, tmp_path / "run")
    model = network()
    nothing = agent.ask(model, epoch=0)
    assert len(nothing) == 0
    assert len(ConcatDataset([train_set, nothing])) == 12
    synthetic = agent.ask(model, epoch=1)
    assert isinstance(synthetic, Dataset)
    assert len(synthetic) == 12  # half of 12 images, twice
    assert synthetic.classes == list(synthetic.class_names) == CLASSES
    assert synthetic.targets == [c.label for c in synthetic.candidates]
    image, label = synthetic[0]
    assert torch.equal(image, to_tensor(synthetic.image(0)))
    assert label == synthetic.labels[0]
    assert torch.equal(synthetic[-1][0], synthetic[11][0])
    with pytest.raises(IndexError):
        synthetic[12]
    loader: DataLoader[Any] = DataLoader(ConcatDataset([train_set, synthetic]), 24)
    images, labels = next(iter(loader))
    assert images.shape == (24, 3, SIZE_PX, SIZE_PX)
    assert labels[12:].tolist() == synthetic.targets


def test_a_transform_of_ones_own_replaces_that_of_the_train_set(tmp_path: Path) -> None:
    synthetic = opened(InMemory(), tmp_path / "run").ask(network(), epoch=1)
    image, label = synthetic.with_transform(None)[0]
    assert isinstance(image, Image.Image)
    assert label == synthetic.labels[0]
    item = synthetic.with_transform(lambda image: image.size, lambda label: label + 10)[0]
    assert item == ((SIZE_PX, SIZE_PX), synthetic.labels[0] + 10)
    assert isinstance(synthetic[0][0], torch.Tensor)


def test_rows_have_the_columns_of_the_train_set(tmp_path: Path) -> None:
    train_set = rows()
    synthetic = opened(train_set, tmp_path / "run").ask(network(), epoch=1)
    row = synthetic[0]
    assert list(row) == train_set.column_names
    candidate = synthetic.candidates[0]
    assert (row["id"], row["fine_label"]) == (candidate.id, candidate.label)
    assert row["coarse"] == int(candidate.source_id[1:]) % 2
    assert row["img"].tobytes() == synthetic.image(0).tobytes()
    smaller = synthetic.with_transform(to_tensor)[0]
    assert smaller["img"].shape == (3, SIZE_PX, SIZE_PX)
    joined = datasets.concatenate_datasets([train_set, synthetic.to_datasets()])
    assert joined.features["fine_label"].names == CLASSES
    assert joined["fine_label"][12:] == synthetic.targets
    assert joined[12]["source_id"] == candidate.source_id


def test_rows_follow_the_format_of_the_train_set(tmp_path: Path) -> None:
    def tensors(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        return {"pixels": [to_tensor(i) for i in batch["img"]], "y": batch["fine_label"]}

    train_set = rows().with_transform(tensors)
    synthetic = opened(train_set, tmp_path / "run").ask(network(), epoch=1)
    batch = next(iter(DataLoader(ConcatDataset([train_set, synthetic]), 24)))
    assert batch["pixels"].shape == (24, 3, SIZE_PX, SIZE_PX)
    assert batch["y"][12:].tolist() == synthetic.targets


@pytest.mark.integration
def test_workers_of_a_loader_read_the_images(tmp_path: Path) -> None:
    synthetic = opened(InMemory(), tmp_path / "run").ask(network(), epoch=1)
    loader = DataLoader(synthetic, 4, num_workers=2, multiprocessing_context="spawn")
    assert [int(label) for _, labels in loader for label in labels] == synthetic.targets


def test_kept_images_join_the_real_ones_and_are_saved_or_uploaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, photo_folder: Path
) -> None:
    agent = opened(str(photo_folder), tmp_path / "run")
    synthetic = agent.ask(network(), epoch=1)
    assert isinstance(synthetic[0][0], Image.Image)
    kept = synthetic.to_datasets()
    joined = datasets.concatenate_datasets([agent.images.to_datasets(), kept])
    assert joined.features["label"].names == list(agent.images.class_names)
    assert len(joined) == 24 + len(synthetic)
    synthetic.save_to_disk(tmp_path / "kept")
    for path in synthetic.paths:
        path.unlink()
    saved = datasets.load_from_disk(str(tmp_path / "kept"))
    assert (
        saved[0]["image"].size
        == kept.features["image"]
        .decode_example(saved.cast_column("image", datasets.Image(decode=False))[0]["image"])
        .size
    )
    pushed: list[Any] = []
    monkeypatch.setattr(
        datasets.Dataset,
        "push_to_hub",
        lambda self, *args, **options: pushed.append((args, options)),
    )
    synthetic.push_to_hub("me/kept", private=True)
    assert pushed == [(("me/kept",), {"private": True})]


class Wrapped(nn.Module):
    """Returns an output with `.logits`, as models of transformers do."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.config = type("Config", (), {})()
        self.config.image_size = 24

    def forward(self, images: torch.Tensor) -> Any:
        return type("Output", (), {"logits": self.inner(images)})()


def test_the_model_is_left_as_found(tmp_path: Path) -> None:
    agent = opened(InMemory(), tmp_path / "run", filter={"snapshot_at": (0.25, 0.5)})
    model = network().train()
    model[1].eval()  # type: ignore[index]
    model[0].requires_grad_(False)  # type: ignore[index]
    model[5].weight.grad = torch.ones(3, 16)  # type: ignore[index]
    calls: list[int] = []
    model.register_forward_hook(lambda *_: calls.append(1))
    modes = [module.training for module in model.modules()]
    frozen = [parameter.requires_grad for parameter in model.parameters()]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    hooks = dict(model._forward_hooks)
    torch.manual_seed(1)
    expected = torch.rand(2)
    torch.manual_seed(1)
    for epoch in (1, 2):
        agent.tell(model, epoch=epoch)
        agent.ask(model, epoch=epoch)
    assert torch.equal(torch.rand(2), expected)
    assert calls
    assert [module.training for module in model.modules()] == modes
    assert [parameter.requires_grad for parameter in model.parameters()] == frozen
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(model[5].weight.grad, torch.ones(3, 16))  # type: ignore[index]
    assert dict(model._forward_hooks) == hooks
    assert all(c.vog is not None for c in agent.pool.candidates(1))  # from bare-module snapshots


@pytest.mark.parametrize("wrap", [Wrapped, nn.DataParallel])
def test_modules_may_return_an_output_or_be_wrapped(
    wrap: Callable[[nn.Module], nn.Module], tmp_path: Path
) -> None:
    agent = opened(InMemory(), tmp_path / "run")
    assert len(agent.ask(wrap(network()), epoch=1)) == 12
    inner = network()
    assert agent._inputs.classifier(nn.DataParallel(inner)).module is inner


def test_other_models_are_refused(tmp_path: Path) -> None:
    agent = opened(InMemory(), tmp_path / "run")
    with pytest.raises(ModelError, match="the model is a function; give a torch module"):
        agent.ask(to_tensor, epoch=1)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="3 class names"):
        agent.ask(network(classes=7), epoch=1)


def _inputs(agent: Agent, model: Any) -> tuple[int, tuple[float, ...], tuple[float, ...]]:
    classifier = agent._inputs.classifier(model)
    return classifier.size_px, classifier.mean, classifier.std


def test_input_size_and_normalisation_come_from_arguments_set_module_or_images(
    tmp_path: Path,
) -> None:
    half = (0.5, 0.5, 0.5)
    timm = network()
    timm.pretrained_cfg = {"mean": half, "std": half, "input_size": (3, 20, 20)}  # type: ignore
    plain, shown = InMemory(transform=None), InMemory()
    imagenet = Classifier.wrap(network(), class_names=CLASSES, size_px=1)
    given: dict[str, Any] = {"size_px": 28, "mean": half, "std": (1, 1, 1)}
    assert _inputs(opened(shown, tmp_path / "a", **given), timm) == (28, half, (1, 1, 1))
    assert _inputs(opened(shown, tmp_path / "b"), timm) == (16, (0, 0, 0), (1, 1, 1))
    agent = opened(plain, tmp_path / "c")
    assert _inputs(agent, timm) == (20, half, half)
    assert _inputs(agent, Wrapped(network())) == (24, imagenet.mean, imagenet.std)
    assert _inputs(agent, network()) == (32, imagenet.mean, imagenet.std)  # 16 px, rounded
    own = Classifier.wrap(network(), class_names=CLASSES, size_px=48)
    assert agent._inputs.classifier(own) is own
    with pytest.raises(ConfigError, match="mean and std are given together"):
        opened(plain, tmp_path / "d", mean=half)


def test_an_agent_opened_again_resumes(tmp_path: Path) -> None:
    first = opened(InMemory(), tmp_path / "run").ask(network(), epoch=1)
    again = opened(InMemory(), tmp_path / "run").ask(network(), epoch=1)
    assert again.candidates == first.candidates
    with pytest.raises(RunFolderError, match=r"training\.epochs is 4 there, not 5"):
        opened(InMemory(), tmp_path / "run", epochs=5)


def test_a_wrong_setting_or_set_makes_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"did you mean rounds \(agent\.rounds\)"):
        Agent.open(InMemory(), out=tmp_path / "run", round=3)
    with pytest.raises(ConfigError, match=r"agent\.guard compares with a complete training"):
        Agent.open(InMemory(), out=tmp_path / "run", guard=True)
    with pytest.raises(ConfigError, match=r"selection\.by must be one of"):
        Agent.open(InMemory(), out=tmp_path / "run", selection={"by": "xyz"})
    with pytest.raises(DataError, match="train_set is a int"):
        Agent.open(3, out=tmp_path / "run", config=RunConfig())
    assert not (tmp_path / "run").exists()


def test_a_part_of_a_set_is_a_set(tmp_path: Path) -> None:
    part = Subset(InMemory(), [1, 2, 4, 5])
    agent = opened(part, tmp_path / "run")
    assert len(agent.images) == 4
    synthetic: SyntheticImages = agent.ask(network(), epoch=1)
    assert len(next(iter(DataLoader(ConcatDataset([part, synthetic]), 8)))[1]) == 8


def test_a_folder_of_other_classes_is_refused(tmp_path: Path) -> None:
    def named(*classes: str) -> InMemory:
        train_set = InMemory()
        train_set.classes = list(classes)
        return train_set

    opened(named("ant", "bee", "cow"), tmp_path / "run")
    opened(named("ant", "Bee", "cow"), tmp_path / "run")
    with pytest.raises(RunFolderError) as error:
        opened(named("cow", "bee", "ant"), tmp_path / "run")
    assert "the train set has 'cow', 'bee', 'ant'; the run has 'ant', 'bee', 'cow'" in str(
        error.value
    )
    with pytest.raises(RunFolderError, match="other classes"):
        opened(named("ant", "bee", "yak"), tmp_path / "run")


def test_a_model_that_names_its_outputs_otherwise_is_refused(tmp_path: Path) -> None:
    agent = opened(InMemory(), tmp_path / "run")
    names = agent.images.class_names
    own = Classifier.wrap(network(), class_names=names[::-1], size_px=32)
    with pytest.raises(DataError) as error:
        agent.ask(own, epoch=1)
    assert "the classifier has 'ship', 'dog', 'cat'; the train set has 'cat', 'dog', 'ship'" in str(
        error.value
    )
    other = network()
    other.config = {"id2label": dict(enumerate(names[::-1]))}  # type: ignore[assignment]
    with pytest.raises(DataError, match="id2label has 'ship', 'dog', 'cat'; the train set"):
        agent.ask(other, epoch=1)
    generic = network()
    generic.config = {"id2label": {i: f"LABEL_{i}" for i in range(3)}}  # type: ignore[assignment]
    in_order, moved = dict(enumerate(names)), {"cat": 1, "dog": 0, "ship": 2}
    for config, said in (
        ({"id2label": {1: "cat", 2: "dog", 3: "ship"}}, "names the numbers 1, 2, 3; needed are 0"),
        ({"id2label": {"a": "cat", "b": "dog", "c": "ship"}}, "invalid literal"),
        ({"id2label": in_order, "label2id": moved}, "give 'cat' different numbers"),
    ):
        other.config = config  # type: ignore[assignment]
        with pytest.raises(DataError, match=f"id2label does not name its outputs: .*{said}"):
            agent.ask(other, epoch=1)
    assert len(agent.ask(generic, epoch=1)) == 12


class FilesOnDisk:
    """As torchvision's ImageFolder: `samples` with paths below `root`, read by `loader`."""

    def __init__(self, root: Path) -> None:
        self.root, self.classes = str(root), ["cat", "dog"]
        self.samples = [
            (str(path), self.classes.index(path.parent.name)) for path in sorted(root.glob("*/*"))
        ]

    def loader(self, path: str) -> Image.Image:
        with Image.open(path) as image:
            return image.convert("RGB")

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        path, label = self.samples[index]
        return self.loader(path), label


@pytest.mark.parametrize("as_path", [False, True])
def test_swapped_images_under_the_same_names_are_refused(as_path: bool, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    for number in range(12):
        path = photos / ("cat", "dog")[number % 2] / f"{number // 2}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise_image(number).save(path)
    moved = tmp_path / "moved"

    def given(root: Path) -> Any:
        return str(root) if as_path else FilesOnDisk(root)

    opened(given(photos), tmp_path / "run")
    photos.rename(moved)
    opened(given(moved), tmp_path / "run")
    (moved / "cat").rename(moved / "aside")
    (moved / "dog").rename(moved / "cat")
    (moved / "aside").rename(moved / "dog")
    with pytest.raises(RunFolderError, match=r"other content: cat/0\.png, cat/1\.png"):
        opened(given(moved), tmp_path / "run")


def test_with_overlap_images_come_a_round_later(tmp_path: Path) -> None:
    overlap = {"overlap": True}
    agent = opened(InMemory(), tmp_path / "run", agent=overlap)
    assert len(agent.ask(network(), epoch=1)) == 0
    agent.close()  # stopped early; opened again, it goes on
    agent = opened(InMemory(), tmp_path / "run", agent=overlap)
    assert (agent.schedule.round_epochs, agent.schedule.enter_epochs) == ((1, 2), (2, 3))
    found = [{c.round for c in agent.ask(network(), epoch=epoch).candidates} for epoch in (1, 2, 3)]
    assert found == [set(), {0}, {1}]
    agent.close()


def test_a_generator_that_needs_a_source_is_not_asked_for_images_from_text(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"Darker has no makes_from_text = True\. Set generation"):
        Agent.open(InMemory(), out=tmp_path, backends=darker(), rounds=1, epochs=2, start="noise")


def test_a_generator_without_a_controlnet_is_not_asked_to_follow_edges(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"Darker has no follows_edges = True\. Set generation"):
        Agent.open(
            InMemory(), out=tmp_path, backends=darker(), rounds=1, epochs=2, condition="edges"
        )
