"""Feedback on real pipelines of every family, with a real classifier as the guide."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import UniPCMultistepScheduler
from PIL import Image
from torch import nn

from gendataagent.agent.feedback.guide import ClassifierGuide
from gendataagent.core.checkpoints import save_weights_file
from gendataagent.core.errors import GenerationError, ModelError
from gendataagent.core.files import file_sha256
from gendataagent.core.protocols import Feedback, Rendered, RenderRequest
from gendataagent.generation.diffusion import DiffusionFactory
from gendataagent.generation.diffusion.generator import DiffusionGenerator
from gendataagent.generation.diffusion.steerable import check_steerable
from gendataagent.generation.executors import ProcessExecutor, SerialExecutor
from gendataagent.generation.render_cache import CachingExecutor
from gendataagent.training.classifier import Classifier
from tests import tiny_models

CLASSES = ("cat", "dog", "ship")
FAMILIES: dict[str, Callable[[Path], Path]] = {
    "sd": tiny_models.save_tiny_pipeline,
    "sd-xl": tiny_models.save_tiny_sdxl,
    "lcm": tiny_models.save_tiny_lcm,
    "sd3": tiny_models.save_tiny_sd3,
}


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    with tiny_models.seeded(0):
        head = nn.Linear(32, len(CLASSES))
        nn.init.normal_(head.weight, std=2.0)
        network = nn.Sequential(
            nn.Conv2d(3, 8, 5, stride=2), nn.BatchNorm2d(8), nn.ReLU(),
            nn.AdaptiveAvgPool2d(2), nn.Flatten(), head,
        )  # fmt: skip
    return Classifier(network, class_names=CLASSES, size_px=24, resize_px=28)


@pytest.fixture(scope="module")
def weights(classifier: Classifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("guide") / "guide.safetensors"
    save_weights_file(path, classifier.module.state_dict())
    return path


@pytest.fixture(scope="module", params=list(FAMILIES))
def factory(
    request: pytest.FixtureRequest,
    classifier: Classifier,
    tmp_path_factory: pytest.TempPathFactory,
) -> DiffusionFactory:
    folder = FAMILIES[request.param](tmp_path_factory.mktemp(request.param) / "model")
    return guided(folder, classifier)


@pytest.fixture(scope="module")
def sd(classifier: Classifier, tiny_pipeline_folder: Path) -> DiffusionFactory:
    return guided(tiny_pipeline_folder, classifier)


def guided(folder: Path, classifier: Classifier, **changes: Any) -> DiffusionFactory:
    settings = {"batch_size": 4, "feedback_decoder": "vae", **changes}
    return DiffusionFactory(model=str(folder), **settings).with_guide(ClassifierGuide(classifier))


def requests(weights: Path, count: int = 4, **changes: Any) -> list[RenderRequest]:
    """Return requests with feedback; without where `scale=0`."""
    settings: dict[str, Any] = {
        "criterion": "loss", "scale": 0.3, "views": 3, "steps": (0.0, 1.0), "decoder": "vae",
        "guide": file_sha256(weights), "guide_file": str(weights), **changes,
    }  # fmt: skip
    return [
        RenderRequest(
            source=Image.fromarray(
                np.random.default_rng(seed).integers(0, 256, (40, 32, 3), dtype=np.uint8)
            ),
            prompt=f"A photo of {CLASSES[seed % 3]}, number {seed}",
            negative_prompt="blurry",
            seed=seed,
            strength=0.75,
            guidance_scale=2.0,
            num_inference_steps=4,
            feedback=Feedback(label=seed % 3, **settings) if settings["scale"] else None,
        )
        for seed in range(count)
    ]


def bits(results: Sequence[Rendered]) -> list[bytes]:
    assert all(result.rejected_by is None for result in results)
    return [result.image.tobytes() for result in results if result.image is not None]


def losses(classifier: Classifier, results: Sequence[Rendered]) -> torch.Tensor:
    images = torch.stack(
        [torch.from_numpy(np.array(r.image)).permute(2, 0, 1) / 255 for r in results]
    )
    guide = ClassifierGuide(classifier)
    logits = guide.logits(images, classifier.module.state_dict())
    labels = torch.arange(len(results)) % 3
    return nn.functional.cross_entropy(logits, labels, reduction="none")


def test_every_family_is_moved_the_way_the_criterion_says(
    factory: DiffusionFactory, classifier: Classifier, weights: Path
) -> None:
    generator = factory()
    plain = generator.render(requests(weights, 8, scale=0))
    harder = generator.render(requests(weights, 8))
    easier = generator.render(requests(weights, 8, criterion="easy"))
    of_plain, of_harder, of_easier = (
        losses(classifier, results) for results in (plain, harder, easier)
    )
    assert of_harder.mean() > of_plain.mean() > of_easier.mean()
    assert (of_harder > of_easier).float().mean() >= 0.75
    assert bits(generator.render(requests(weights, 8, scale=0))) == bits(plain)  # no trace is left


def test_a_random_direction_has_the_length_but_not_the_effect(
    sd: DiffusionFactory, classifier: Classifier, weights: Path
) -> None:
    generator = sd()
    plain = generator.render(requests(weights, 8, scale=0))
    random = generator.render(requests(weights, 8, criterion="random"))
    harder = generator.render(requests(weights, 8))
    assert set(bits(random)).isdisjoint(bits(plain))
    effect = (losses(classifier, random) - losses(classifier, plain)).mean().abs()
    assert effect < (losses(classifier, harder) - losses(classifier, plain)).mean() / 3


def test_an_image_is_the_same_in_any_batch_order_and_executor(
    sd: DiffusionFactory, weights: Path
) -> None:
    wanted = requests(weights, 6)
    together = bits(sd().render(wanted))
    generator = sd()
    assert [bits(generator.render([one]))[0] for one in wanted] == together
    assert bits(generator.render(wanted[::-1])) == together[::-1]
    serial = SerialExecutor().map(sd, [wanted[:3], wanted[3:]])
    assert [image for results in serial for image in bits(results)] == together
    workers = ProcessExecutor(2).map(sd, [wanted[:2], wanted[2:4], wanted[4:]])
    assert [image for results in workers for image in bits(results)] == together


def test_the_factory_is_picklable_with_its_guide(sd: DiffusionFactory, weights: Path) -> None:
    copied = pickle.loads(pickle.dumps(sd))
    assert bits(copied().render(requests(weights, 2))) == bits(sd().render(requests(weights, 2)))


def test_an_image_depends_on_everything_of_its_feedback(
    sd: DiffusionFactory, weights: Path
) -> None:
    generator = sd()
    variants = [
        requests(weights, 1, **changes)
        for changes in (
            {}, {"scale": 0.2}, {"views": 1}, {"views": 6}, {"steps": (0.0, 0.5)},
            {"criterion": "entropy"},
            {"scale": 0},
        )
    ]  # fmt: skip
    images = [bits(generator.render(variant))[0] for variant in variants]
    assert len(set(images)) == len(variants)


def test_a_cached_image_is_found_by_the_guides_hash_not_its_path(
    sd: DiffusionFactory, classifier: Classifier, weights: Path, tmp_path: Path
) -> None:
    def rendered(file: Path) -> tuple[int, list[bytes]]:
        executor = CachingExecutor(SerialExecutor(), tmp_path / "cache", stamp="sd")
        images = [b for results in executor.map(sd, [requests(file, 3)]) for b in bits(results)]
        return executor.hits, images

    first = rendered(weights)
    elsewhere = tmp_path / "copy.safetensors"
    elsewhere.write_bytes(weights.read_bytes())
    assert rendered(elsewhere) == (3, first[1])
    other = tmp_path / "other.safetensors"
    state = {name: value + 0.5 for name, value in classifier.module.state_dict().items()}
    save_weights_file(other, state)
    hits, images = rendered(other)
    assert hits == 0
    assert images != first[1]


def test_the_classifier_is_left_as_found(
    sd: DiffusionFactory, classifier: Classifier, weights: Path
) -> None:
    module = classifier.module
    module.train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    guided(Path(sd.model), classifier)().render(requests(weights, 4))
    assert module.training
    assert all(p.requires_grad and p.grad is None for p in module.parameters())
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


@pytest.mark.parametrize("decoder", ["half", "tiny"])
def test_the_gradient_can_come_through_a_cheaper_decoder(
    decoder: str, classifier: Classifier, weights: Path, tmp_path: Path
) -> None:
    folder = tiny_models.save_tiny_sdxl(tmp_path / "sdxl")
    if decoder == "tiny":
        with tiny_models.seeded(1):
            tiny_models._autoencoder().save_pretrained(tmp_path / "taesd")
        decoder = str(tmp_path / "taesd")
    full = bits(guided(folder, classifier)().render(requests(weights, 2)))
    cheap = bits(
        guided(folder, classifier, feedback_decoder=decoder)().render(requests(weights, 2))
    )
    plain = bits(guided(folder, classifier)().render(requests(weights, 2, scale=0)))
    assert len({full[0], cheap[0], plain[0]}) == 3


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_feedback_follows_images_without_it(
    dtype: str, classifier: Classifier, weights: Path, tmp_path: Path
) -> None:
    """SDXL's pipeline moves its autoencoder to float32 and back in each call."""
    folder = tiny_models.save_tiny_sdxl(tmp_path / "sdxl")
    generator = guided(folder, classifier, dtype=dtype)()
    plain = [replace(request, feedback=None) for request in requests(weights, 2)]
    assert bits(generator.render(plain)) != bits(generator.render(requests(weights, 2)))


def test_a_tiny_decoder_that_does_not_fit_is_refused(
    sd: DiffusionFactory, classifier: Classifier
) -> None:
    with pytest.raises(ModelError, match=r"generation.feedback_decoder: 'nowhere'"):
        guided(Path(sd.model), classifier, feedback_decoder="nowhere")()


def test_memory_that_runs_out_halves_the_batch(
    sd: DiffusionFactory, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = sd()
    expected = len(generator.render(requests(weights, 4)))
    decode = generator._steerer._decode if generator._steerer else None
    assert decode is not None

    def scarce(latents: torch.Tensor) -> torch.Tensor:
        if len(latents) > 2:
            raise torch.OutOfMemoryError("no memory")
        return decode(latents)

    monkeypatch.setattr(generator._steerer, "_decode", scarce)
    assert len(generator.render(requests(weights, 4))) == expected
    assert generator._batch_size.size == 2


def test_a_changed_or_missing_guide_file_is_refused(
    sd: DiffusionFactory, weights: Path, tmp_path: Path
) -> None:
    generator = sd()
    damaged = tmp_path / "guide.safetensors"
    damaged.write_bytes(weights.read_bytes()[:-1] + b"x")
    wanted = [
        replace(r, feedback=replace(r.feedback, guide_file=str(damaged)))
        for r in requests(weights, 1)
        if r.feedback
    ]
    with pytest.raises(GenerationError, match="have changed since"):
        generator.render(wanted)
    damaged.unlink()
    with pytest.raises(GenerationError, match="cannot be read"):
        generator.render(wanted)


def test_a_generator_without_a_guide_refuses_feedback(
    tiny_pipeline_folder: Path, weights: Path
) -> None:
    plain: DiffusionGenerator = DiffusionFactory(model=str(tiny_pipeline_folder))()
    with pytest.raises(GenerationError, match="without a guide"):
        plain.render(requests(weights, 1))


def test_what_cannot_be_steered_is_refused_before_it_is_loaded(tmp_path: Path) -> None:
    folder = tiny_models.save_tiny_flagging_sd(tmp_path / "pndm")
    spec = DiffusionFactory(model=str(folder), feedback_decoder="vae")
    spec.check()  # auto takes UniPC
    with pytest.raises(ModelError, match="cannot steer PNDMScheduler"):
        replace(spec, scheduler="PNDMScheduler").check()
    replace(spec, scheduler="PNDMScheduler", feedback_decoder="").check()
    with pytest.raises(ModelError, match="autoencoder is Linear"):
        check_steerable(UniPCMultistepScheduler(), nn.Linear(1, 1), "a video model")
