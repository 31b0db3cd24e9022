"""Names in the settings: what they build, how "auto" is resolved, what is refused."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from gendataagent.config import RunConfig
from gendataagent.core.devices import has_bfloat16_units, resolve_device
from gendataagent.core.errors import ConfigError
from gendataagent.generation import backends
from gendataagent.generation.backends import CAPTIONERS, REWRITERS, TINY_SD, build_backends
from gendataagent.generation.caption_cache import CachedCaptioner
from gendataagent.generation.diffusion import DiffusionFactory
from gendataagent.generation.diffusion.generator import DiffusionGenerator
from gendataagent.generation.diffusion.mirrors import STABLE_DIFFUSION_15
from gendataagent.generation.executors import ProcessExecutor, SerialExecutor
from gendataagent.generation.executors.ray_executor import RayExecutor
from gendataagent.generation.language.rewriter import LanguageModelRewriter
from gendataagent.generation.plain import NoCaption, SameCaption
from gendataagent.generation.pooled import PooledCaptioner, PooledChat
from gendataagent.generation.render_cache import CachingExecutor
from gendataagent.generation.tiny.captioner import AttributeCaptioner
from gendataagent.generation.tiny.rewriter import AttributeRewriter
from gendataagent.runs.preflight import problems, resolve_auto
from tests.tiny_captioners import save_tiny_captioner
from tests.tiny_language import save_tiny_llama


def config_of(**sections: object) -> RunConfig:
    return RunConfig.from_dict(sections)


def test_the_defaults_have_no_problems() -> None:
    assert list(problems(RunConfig())) == []


def test_all_unknown_names_are_reported_at_once_with_what_is_allowed() -> None:
    config = config_of(
        selection={"by": "loss"},
        filter={"by": "VOG"},
        prompting={"captioner": "blip", "rewriter": ""},
        generation={"generator": "tiny_sd"},
        classifier={"model": "./nowhere"},
    )
    found = list(problems(config))
    assert len(found) == 6
    assert "selection.by must be one of marginal, uniform, entropy, margin; got 'loss'" in found
    assert (
        "filter.by must be one of vog, knn, agreement, text-agreement, random, none; got 'VOG'"
        in found
    )
    assert (
        "prompting.captioner must be auto, visible-attributes, none, an existing folder, or a hub "
        "id such as Salesforce/blip2-opt-2.7b; got 'blip'" in found
    )
    assert "prompting.rewriter must not be empty; use auto" in found
    assert "classifier.model: there is no folder ./nowhere" in found
    assert any(
        p.startswith("generation.generator must be auto, tiny-sd, retrieval, an existing")
        for p in found
    )
    with pytest.raises(ConfigError) as caught:
        build_backends(config)
    own = [problem for problem in found if problem.startswith(("prompting.", "generation."))]
    assert list(caught.value.problems) == own


@pytest.mark.parametrize(
    ("generator", "says"),
    [
        ("", "must not be empty"),
        ("{tmp}/nowhere", "there is no folder"),
        ("~/no/such/folder", "there is no folder"),
        ("a/b/c", "there is no folder a/b/c"),
        ("{tmp}", "has no model_index.json"),
        ("{tmp}/weights.safetensors", "is a file; name a folder"),
        ("stable-diffusion", "got 'stable-diffusion'"),
    ],
)
def test_an_impossible_generator_is_refused_before_loading(
    generator: str, says: str, tmp_path: Path
) -> None:
    (tmp_path / "weights.safetensors").touch()
    config = config_of(generation={"generator": generator.format(tmp=tmp_path)})
    (problem,) = problems(config)
    assert problem.startswith("generation.generator")
    assert says in problem


@pytest.mark.parametrize("generator", [STABLE_DIFFUSION_15, TINY_SD, "auto"])
def test_possible_generators_have_no_problem(generator: str) -> None:
    assert list(problems(config_of(generation={"generator": generator}))) == []


@pytest.mark.parametrize(
    ("device", "side_px", "cached", "model", "generator", "notes"),
    [
        ("cpu", 32, False, "tiny-resnet", TINY_SD, ["bundled tiny-sd"]),
        ("cpu", 500, False, "tiny-resnet", TINY_SD, ["No GPU was found", "bundled tiny-sd"]),
        ("cpu", 500, True, "tiny-resnet", TINY_SD, ["No GPU was found", "bundled tiny-sd"]),
        ("cuda", 500, True, "microsoft/resnet-50", STABLE_DIFFUSION_15, []),
        ("cuda:1", 64, True, "tiny-resnet", STABLE_DIFFUSION_15, []),
        ("cuda", 65, False, "microsoft/resnet-50", TINY_SD, ["bundled tiny-sd"]),
        ("mps", 500, True, "microsoft/resnet-50", TINY_SD, ["bundled tiny-sd"]),
    ],
)
def test_auto_depends_on_device_image_size_and_cached_weights(
    device: str, side_px: int, cached: bool, model: str, generator: str, notes: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(backends, "stable_diffusion_is_here", lambda: cached)
    config, said = resolve_auto(RunConfig(), device=device, typical_side_px=side_px)
    assert (config.classifier.model, config.generation.generator) == (model, generator)
    assert (config.prompting.captioner, config.prompting.rewriter) == ("visible-attributes",) * 2
    on_cpu = "bfloat16" if has_bfloat16_units() else "float32"
    assert config.generation.dtype == (on_cpu if device == "cpu" else "float16")
    assert config.prompting.dtype == ("float32" if device == "cpu" else "float16")
    assert len(said) == len(notes)
    assert all(note in sentence for note, sentence in zip(notes, said, strict=True))


def test_named_models_stay_and_resolving_twice_changes_nothing() -> None:
    named = config_of(
        classifier={"model": "a/b"},
        training={"mixed_precision": "no"},
        generation={
            "generator": "c/d",
            "dtype": "bfloat16",
            "batch_size": 5,
            "num_inference_steps": 9,
            "guidance_scale": 3.0,
        },
        prompting={"captioner": "none", "rewriter": "none", "dtype": "float32"},
        adaptation={"mixed_precision": "no"},
    )
    assert resolve_auto(named, device="cpu", typical_side_px=500) == (named, [])
    once, _ = resolve_auto(RunConfig(), device="cpu", typical_side_px=32)
    assert resolve_auto(once, device="cuda", typical_side_px=500) == (once, [])


def test_without_the_agent_no_note_mentions_the_generator() -> None:
    config = config_of(agent={"enabled": False})
    assert resolve_auto(config, device="cpu", typical_side_px=32)[1] == []


def test_the_settings_choose_the_backends(tiny_pipeline_folder: Path) -> None:
    backends = build_backends(
        config_of(
            device="cpu",
            generation={"generator": str(tiny_pipeline_folder), "workers": 2},
            prompting={"captioner": "none", "rewriter": "none"},
        )
    )
    assert isinstance(backends.captioner, NoCaption)
    assert isinstance(backends.rewriter, SameCaption)
    assert isinstance(backends.executor, ProcessExecutor)
    assert backends.generator == DiffusionFactory(
        model=str(tiny_pipeline_folder),
        device="cpu",
        dtype="bfloat16" if has_bfloat16_units() else "float32",
        batch_size=32,
    )
    assert pickle.loads(pickle.dumps(backends.generator)) == backends.generator
    assert backends.generator.describe().name == "tiny-random-sd"
    assert isinstance(backends.generator(), DiffusionGenerator)


def test_on_a_cluster_every_model_is_on_the_same_workers(
    tiny_pipeline_folder: Path, tmp_path: Path
) -> None:
    pytest.importorskip("ray")
    config = config_of(
        device="cpu",
        generation={"generator": str(tiny_pipeline_folder), "executor": "ray"},
        prompting={
            "captioner": str(save_tiny_captioner(tmp_path / "captioner", "blip")),
            "rewriter": str(save_tiny_llama(tmp_path / "llama")),
        },
    )
    built = build_backends(config)
    assert isinstance(built.executor, RayExecutor)
    assert isinstance(built.captioner, CachedCaptioner)
    assert isinstance(built.captioner.inner, PooledCaptioner)
    assert isinstance(built.rewriter, LanguageModelRewriter)
    assert isinstance(built.rewriter.chat, PooledChat)
    # Two executors would each hold the GPUs that the other waits for.
    assert backends.with_adapted(built, config, tmp_path).executor is built.executor


def test_a_generator_path_may_start_with_a_tilde(
    tiny_pipeline_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tiny_pipeline_folder.parent))
    monkeypatch.setenv("USERPROFILE", str(tiny_pipeline_folder.parent))
    config = config_of(generation={"generator": f"~/{tiny_pipeline_folder.name}"})
    backends = build_backends(config)
    assert isinstance(backends.executor, SerialExecutor)
    assert isinstance(backends.generator(), DiffusionGenerator)


def test_visible_attributes_names_the_bundled_backends() -> None:
    assert isinstance(CAPTIONERS["visible-attributes"](), AttributeCaptioner)
    assert isinstance(REWRITERS["visible-attributes"](), AttributeRewriter)


def test_every_backend_in_the_tables_has_its_name_and_method() -> None:
    for name, captioner in CAPTIONERS.items():
        assert captioner().description.name == name
        assert captioner().caption([]) == []
    for name, rewriter in REWRITERS.items():
        assert rewriter().description.name == name
        assert rewriter().rewrite([]) == []


def test_an_unavailable_device_is_refused() -> None:
    assert resolve_device("cpu") == "cpu"
    assert resolve_device("auto") in {"cpu", "cuda", "mps"}
    for name in ("quantum", "" if torch.cuda.is_available() else "cuda"):
        with pytest.raises(ConfigError, match=rf"device '{name}' cannot be used here: .*try auto"):
            resolve_device(name)


def test_the_image_cache_separates_generators_and_settings(
    tiny_pipeline_folder: Path, tmp_path: Path
) -> None:
    def executor_of(**generation: object) -> CachingExecutor:
        executor = build_backends(config_of(device="cpu", generation=generation)).executor
        assert isinstance(executor, CachingExecutor)
        return executor

    cache = str(tmp_path)
    tiny = executor_of(generator=str(tiny_pipeline_folder), image_cache=cache)
    same = executor_of(generator=str(tiny_pipeline_folder), image_cache=cache, workers=2)
    for other in (
        executor_of(generator=TINY_SD, image_cache=cache),
        executor_of(generator=str(tiny_pipeline_folder), image_cache=cache, size_px=64),
        executor_of(generator=str(tiny_pipeline_folder), image_cache=cache, dtype="float16"),
        executor_of(generator=str(tiny_pipeline_folder), image_cache=cache, batch_size=4),
        executor_of(generator=str(tiny_pipeline_folder), image_cache=cache, fuse_qkv=True),
        executor_of(generator=str(tiny_pipeline_folder), image_cache=cache, decoder="a/b"),
    ):
        assert other._stamp != tiny._stamp
    assert same._stamp == tiny._stamp
