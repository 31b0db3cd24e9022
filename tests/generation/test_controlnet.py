"""A ControlNet beside a Stable Diffusion: images follow the edges of their sources."""

from __future__ import annotations

import contextlib
import json
import pickle
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import hypothesis
import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from PIL import Image

from gendataagent.config import GenerationConfig, RunConfig
from gendataagent.core import hub
from gendataagent.core.completeness import UncheckedModel
from gendataagent.core.devices import cpu_threads
from gendataagent.core.errors import ConfigError, ModelError
from gendataagent.core.protocols import Rendered, RenderRequest
from gendataagent.generation.backends import build_backends, name_problems
from gendataagent.generation.diffusion import DiffusionFactory
from gendataagent.generation.diffusion.control import Control
from gendataagent.generation.diffusion.generator import DiffusionGenerator
from gendataagent.generation.executors import ProcessExecutor
from gendataagent.generation.render_cache import CachingExecutor
from tests.generation.conformance import (
    check_generator,
    make_image,
    pixels,
    render_request,
)
from tests.tiny_models import (
    save_tiny_controlnet,
    save_tiny_flux,
    save_tiny_lcm,
    save_tiny_lora,
    save_tiny_pipeline,
    save_tiny_sd3,
    save_tiny_sdxl,
)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    with cpu_threads(1):
        yield


@pytest.fixture(scope="module")
def controlnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_controlnet(tmp_path_factory.mktemp("models") / "tiny-controlnet")


@pytest.fixture(scope="module")
def factory(tiny_pipeline_folder: Path, controlnet: Path) -> DiffusionFactory:
    return DiffusionFactory(
        model=str(tiny_pipeline_folder), control=Control(name=str(controlnet)), batch_size=4
    )


@pytest.fixture(scope="module")
def generator(factory: DiffusionFactory) -> DiffusionGenerator:
    return factory()


def from_text(number: int, source: Image.Image | None = None) -> RenderRequest:
    request = render_request(number, from_text=True, strength=1.0)
    return replace(request, source=source or request.source)


def images_of(results: Sequence[Rendered]) -> list[bytes | None]:
    assert all(result.rejected_by is None for result in results)
    return pixels(results)


def test_with_and_without_image_to_image_it_keeps_the_contract(
    factory: DiffusionFactory,
) -> None:
    check_generator(factory, items=3)


def test_from_text_an_image_depends_on_its_sources_edges_and_on_no_other_of_its_pixels(
    generator: DiffusionGenerator,
) -> None:
    source, other = make_image(1, (32, 32)), make_image(2, (32, 32))
    darker = source.point([max(0, level - 1) for level in range(256)] * 3)
    control = generator._signature.control
    assert control is not None
    assert control.image_of(darker).tobytes() == control.image_of(source).tobytes()
    asked = [from_text(1, source), from_text(1, other), from_text(1, darker)]
    first, second, third = images_of(generator.render(asked))
    assert first == third != second


def test_in_any_batch_an_image_is_the_same_to_the_bit(generator: DiffusionGenerator) -> None:
    requests = [from_text(number) for number in range(6)]
    together = images_of(generator.render(requests))
    assert len(set(together)) == 6
    assert images_of([generator.render([one])[0] for one in requests]) == together
    shared = [from_text(number, make_image(0)) for number in range(3)]
    assert (
        images_of(generator.render(shared))
        == images_of([generator.render([one])[0] for one in shared[::-1]])[::-1]
    )


@pytest.mark.slow
def test_in_a_worker_an_image_is_the_same_to_the_bit(
    factory: DiffusionFactory, generator: DiffusionGenerator
) -> None:
    requests = [from_text(number) for number in range(3)]
    executor = ProcessExecutor(1)
    (results,) = executor.map(factory, [requests])
    executor.release()
    assert images_of(results) == images_of(generator.render(requests))


@pytest.mark.parametrize(
    "change", [{"scale": 0.2}, {"thresholds": (500.0, 900.0)}, {"blur_px": 2.0}], ids=str
)
def test_every_setting_of_it_changes_images_and_the_description(
    change: dict[str, Any], factory: DiffusionFactory, generator: DiffusionGenerator
) -> None:
    assert factory.control is not None
    changed = replace(factory, control=replace(factory.control, **change))
    assert changed.describe().revision != factory.describe().revision
    asked = [from_text(1)]
    assert images_of(changed().render(asked)) != images_of(generator.render(asked))


def test_at_scale_0_an_image_is_that_of_the_plain_generator(factory: DiffusionFactory) -> None:
    assert factory.control is not None
    without = replace(factory, control=None)()
    weightless = replace(factory, control=replace(factory.control, scale=0.0))()
    asked = [from_text(1), from_text(2)]
    assert images_of(weightless.render(asked)) == images_of(without.render(asked))


def test_other_weights_are_another_model(
    factory: DiffusionFactory, generator: DiffusionGenerator, tmp_path: Path
) -> None:
    other = save_tiny_controlnet(tmp_path / "other", seed=1)
    changed = replace(factory, control=Control(name=str(other)))
    assert changed.describe().name == factory.describe().name
    assert changed.describe().revision != factory.describe().revision
    assert generator.description == factory.describe()
    assert images_of(changed().render([from_text(1)])) != images_of(
        generator.render([from_text(1)])
    )


def test_it_is_small_and_can_be_pickled(factory: DiffusionFactory) -> None:
    assert pickle.loads(pickle.dumps(factory)) == factory


def test_sdxl_with_a_controlnet(tmp_path: Path) -> None:
    control = Control(name=str(save_tiny_controlnet(tmp_path / "control", xl=True)))
    factory = DiffusionFactory(
        model=str(save_tiny_sdxl(tmp_path / "model")), control=control, batch_size=2
    )
    factory.check()
    generator = factory()
    requests = [from_text(number) for number in range(2)]
    together = images_of(generator.render(requests))
    assert images_of([generator.render([one])[0] for one in requests]) == together
    assert images_of(generator.render([from_text(0, make_image(5))])) != together[:1]


@pytest.mark.parametrize("save", [save_tiny_sd3, save_tiny_flux, save_tiny_lcm])
def test_a_generator_that_takes_no_controlnet_is_refused_before_it_is_loaded(
    save: Callable[[Path], Path], controlnet: Path, tmp_path: Path
) -> None:
    factory = DiffusionFactory(
        model=str(save(tmp_path / "model")), control=Control(name=str(controlnet))
    )
    with pytest.raises(ModelError, match=r"condition=edges needs a generator that takes a Contr"):
        factory.check()


def test_one_for_another_model_is_refused_naming_the_difference(
    tiny_pipeline_folder: Path, tmp_path: Path
) -> None:
    control = Control(name=str(save_tiny_controlnet(tmp_path / "xl", xl=True)))
    factory = DiffusionFactory(model=str(tiny_pipeline_folder), control=control)
    for call in (factory.check, factory):
        with pytest.raises(
            ModelError, match=r"does not fit.*its cross_attention_dim is 32, that of the UNet 16"
        ):
            call()


def without_weights(folder: Path) -> None:
    (folder / "diffusion_pytorch_model.safetensors").unlink()


def cut(folder: Path) -> None:
    path = folder / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def another_class(folder: Path) -> None:
    path = folder / "config.json"
    tree = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(tree | {"_class_name": "UNet2DConditionModel"}), encoding="utf-8")


def narrower(folder: Path) -> None:
    path = folder / "config.json"
    tree = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(tree | {"cross_attention_dim": 8}), encoding="utf-8")


def no_settings(folder: Path) -> None:
    (folder / "config.json").write_text('"a name"', encoding="utf-8")


@pytest.mark.parametrize("damage", [without_weights, cut, another_class, narrower, no_settings])
def test_a_damaged_or_wrong_folder_is_refused_by_name_without_loading(
    damage: Callable[[Path], None], tiny_pipeline_folder: Path, controlnet: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(controlnet, tmp_path / "damaged"))
    damage(folder)
    factory = DiffusionFactory(model=str(tiny_pipeline_folder), control=Control(name=str(folder)))
    for call in (factory.check, factory):
        with pytest.raises(ModelError, match=r"generation\.controlnet.*damaged") as caught:
            call()
        assert "Traceback" not in str(caught.value)


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 2), st.sampled_from([10**12, 10**400]), st.floats(),
    st.text(max_size=5), st.lists(st.integers(-1, 40), max_size=3), st.just({"a": 1}),
)  # fmt: skip


@hypothesis.settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    max_examples=max(hypothesis.settings().max_examples // 12, 1),
)
@given(data=st.data())
@pytest.mark.filterwarnings("ignore::gendataagent.core.completeness.UncheckedModel")
def test_any_settings_or_weights_are_used_or_refused(
    data: st.DataObject, tiny_pipeline_folder: Path, controlnet: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(controlnet, tmp_path / "any", dirs_exist_ok=True))
    tree = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    for _ in range(data.draw(st.integers(0, 2))):
        tree[data.draw(st.sampled_from(sorted(tree)))] = data.draw(VALUES)
    (folder / "config.json").write_text(json.dumps(tree), encoding="utf-8")
    path = folder / "diffusion_pytorch_model.safetensors"
    weights = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        weights[data.draw(st.integers(0, 2000))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(weights))
    control = Control(name=str(folder))
    with contextlib.suppress(ModelError):
        factory = DiffusionFactory(model=str(tiny_pipeline_folder), control=control)
        factory.check()
        factory()


def test_a_pipeline_that_was_saved_with_a_controlnet_is_refused_saying_how_to_name_both(
    tiny_pipeline_folder: Path, controlnet: Path, tmp_path: Path
) -> None:
    from diffusers import AutoPipelineForImage2Image, ControlNetModel

    folder = tmp_path / "whole"
    AutoPipelineForImage2Image.from_pretrained(
        tiny_pipeline_folder, controlnet=ControlNetModel.from_pretrained(controlnet)
    ).save_pretrained(folder)
    plain = DiffusionFactory(model=str(folder))
    named = replace(plain, control=Control(name=str(folder / "controlnet")))
    for call in (plain.check, plain, named.check, named):
        with pytest.raises(ModelError, match=r"name the plain generator.*whole/controlnet"):
            call()
    DiffusionFactory(model=str(tiny_pipeline_folder), control=named.control).check()


def test_it_has_the_precision_of_the_generator_and_goes_with_a_lora(
    factory: DiffusionFactory, tmp_path: Path
) -> None:
    plain = replace(factory, dtype="float32")
    adapted = replace(plain, lora=str(save_tiny_lora(tmp_path)))
    adapted.check()
    generators = [plain(), replace(plain, dtype="bfloat16")(), adapted()]
    dtypes = [made.pipeline.controlnet.dtype for made in generators]
    assert dtypes == [torch.float32, torch.bfloat16, torch.float32]
    assert len({images_of(made.render([from_text(1)]))[0] for made in generators}) == 3


def settings(generator: Path, controlnet: str, **generation: object) -> RunConfig:
    return RunConfig.from_dict(
        {
            "device": "cpu",
            "generation": {
                "generator": str(generator), "controlnet": controlnet, "condition": "edges",
                "start": "noise", **generation,
            },
        }
    )  # fmt: skip


def test_images_in_the_cache_are_found_by_source_edges_and_weights(
    tiny_pipeline_folder: Path, controlnet: Path, tmp_path: Path
) -> None:
    def misses(config: RunConfig, *requests: RenderRequest) -> int:
        backends = build_backends(config)
        executor = backends.executor
        assert isinstance(executor, CachingExecutor)
        list(executor.map(backends.generator, [requests]))
        return executor.misses

    folder = Path(shutil.copytree(controlnet, tmp_path / "control"))
    cache = {"image_cache": str(tmp_path / "cache"), "batch_size": 1}
    config = settings(tiny_pipeline_folder, str(folder), **cache)
    one, other = from_text(1), from_text(1, make_image(2))
    assert misses(config, one) == 1
    assert misses(config, one) == 0
    assert misses(config, other) == 1
    assert misses(config, replace(one, from_text=False)) == 1
    fewer = settings(tiny_pipeline_folder, str(folder), edge_thresholds=[300, 400], **cache)
    assert misses(fewer, one) == 1
    assert misses(settings(tiny_pipeline_folder, str(folder), condition="none", **cache), one) == 1
    save_tiny_controlnet(folder, seed=1)
    assert misses(config, one) == 1


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"edge_thresholds": [200, 120]}, "must be a low and a high threshold"),
        ({"edge_thresholds": [200]}, "must be a low and a high threshold"),
        ({"edge_thresholds": [0, 120]}, "generation.edge_thresholds"),
        ({"condition": "canny"}, "generation.condition must be one of none, edges"),
        ({"controlnet_scale": -1}, "generation.controlnet_scale"),
        ({"generator": "retrieval", "retrieval_folder": "/tmp"}, "retrieval only finds images"),
    ],
)
def test_wrong_settings_are_refused(changes: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says.replace(".", r"\.")):
        RunConfig.from_dict({"generation": {"condition": "edges", **changes}})


def test_a_folder_that_is_not_there_is_named(tiny_pipeline_folder: Path) -> None:
    config = settings(tiny_pipeline_folder, "/no/such/folder")
    assert list(name_problems(config)) == [
        "generation.controlnet: there is no folder /no/such/folder"
    ]
    assert list(name_problems(replace(config, generation=GenerationConfig()))) == []


def test_a_hub_id_that_cannot_be_reached_is_an_error_with_advice(
    tiny_pipeline_folder: Path,
) -> None:
    factory = DiffusionFactory(
        model=str(tiny_pipeline_folder), control=Control(name="nobody/no-controlnet")
    )
    with pytest.raises(ModelError, match=r"generation\.controlnet"):
        factory.check()


def test_a_controlnet_is_not_read_where_the_settings_do_not_ask_for_it(tmp_path: Path) -> None:
    folder = save_tiny_pipeline(tmp_path / "model")
    config = settings(folder, "/no/such/folder", condition="none", start="image")
    factory = build_backends(config).generator
    assert isinstance(factory, DiffusionFactory)
    assert factory.control is None


def test_of_a_hub_model_without_its_weights_the_settings_are_checked(
    tiny_pipeline_folder: Path, controlnet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after the check has fetched config.json, the only small file."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(hub, "check_download", lambda source: None)
    for number, folder in enumerate((controlnet, save_tiny_controlnet(tmp_path / "xl", xl=True))):
        repository = tmp_path / f"models--some--control{number}"
        snapshot = repository / "snapshots" / "0123456789abcdef0123456789abcdef01234567"
        snapshot.mkdir(parents=True)
        shutil.copy(folder / "config.json", snapshot)
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text(snapshot.name, encoding="utf-8")
    factory = DiffusionFactory(
        model=str(tiny_pipeline_folder), control=Control(name="some/control0")
    )
    with pytest.warns(UncheckedModel, match=r"generation\.controlnet: whether some/control0 is"):
        factory.check()
    other = replace(factory, control=Control(name="some/control1"))
    with (
        pytest.warns(UncheckedModel),
        pytest.raises(ModelError, match="does not fit the generator"),
    ):
        other.check()
