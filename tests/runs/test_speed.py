"""The benchmark of generation: the loop makes the images of the path, and figures fit together."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from gendataagent.cli import app
from gendataagent.config import RunConfig
from gendataagent.core.errors import ConfigError, ModelError
from gendataagent.data import load_data
from gendataagent.generation.backends import build_generator
from gendataagent.generation.diffusion import DiffusionFactory
from gendataagent.runs.speed import PlainLoop, _requests, measure_speed


def settings(generator: Path | str, **changes: object) -> RunConfig:
    return RunConfig.from_dict(
        {
            "device": "cpu",
            "threads": 1,
            "data": {"path": "bundled:cifar10", "train_per_class": 4},
            "generation": {
                "generator": str(generator), "num_inference_steps": 2, "dtype": "float32",
                "batch_size": 4, **changes,
            },
        }
    )  # fmt: skip


def test_the_loop_makes_the_images_of_the_path(tiny_pipeline_folder: Path) -> None:
    config = settings(tiny_pipeline_folder, batch_size=1)
    factory = build_generator(config)
    assert isinstance(factory, DiffusionFactory)
    sources = load_data(config.data, seed=0).train
    requests = _requests(config, sources, 3, 1)
    loop = PlainLoop(factory, "float32").render(requests)
    path = [result.image for result in factory().render(requests)]
    for one, other in zip(loop, path, strict=True):
        assert np.array_equal(np.asarray(one), np.asarray(other))


def test_each_repetition_has_sources_and_texts_of_its_own() -> None:
    config = settings("tiny-sd")
    sources = load_data(config.data, seed=0).train
    first, second = (_requests(config, sources, 10, repetition) for repetition in (1, 2))
    assert len({request.prompt for request in (*first, *second)}) == 20
    assert len({request.seed for request in (*first, *second)}) == 20
    images = [{request.source.tobytes() for request in part} for part in (first, second)]
    assert [len(part) for part in images] == [2, 2]  # five rewrites each
    assert not images[0] & images[1]


def test_figures_fit_together(tiny_pipeline_folder: Path) -> None:
    speed = measure_speed(settings(tiny_pipeline_folder), images=8, loop_images=2, repetitions=2)
    assert (speed.batch_size, speed.dtype, speed.loop_dtype) == (4, "float32", "float32")
    assert len(speed.path_per_s) == len(speed.loop_per_s) == len(speed.ratios) == 2
    assert all(rate > 0 for rate in (*speed.path_per_s, *speed.loop_per_s))
    assert speed.ratios[0] == pytest.approx(speed.path_per_s[0] / speed.loop_per_s[0])
    assert len(speed.processor_ratios) == 2
    assert all(ratio > 0 for ratio in speed.processor_ratios)
    assert set(speed.stage_share) == {"text", "encode", "denoise", "decode", "other"}
    assert sum(speed.stage_share.values()) == pytest.approx(1, abs=0.01)
    assert all(share > 0 for share in speed.stage_share.values())
    assert speed.peak_memory_mib > 10


def test_the_command_prints_json(tiny_pipeline_folder: Path) -> None:
    command = ["bench", "--json", "--images", "2", "--loop-images", "1", "--repeat", "1"]
    settings = ("device=cpu", "threads=1", "generation.num_inference_steps=2")
    for value in settings:
        command += ["--set", value]
    result = CliRunner().invoke(app, [*command, "--generator", str(tiny_pipeline_folder)])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout[result.stdout.index("{") :])
    assert found["images"] == 2
    assert len(found["ratios"]) == 1


def test_what_cannot_be_measured_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"generation\.generator must be"):
        measure_speed(settings("nonsense"))
    with pytest.raises((ConfigError, ModelError), match=r"generation\.generator"):
        measure_speed(settings(tmp_path))
