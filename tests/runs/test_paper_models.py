"""A complete run on tiny models of the paper's families: BLIP-2, Llama, Stable Diffusion.

They are built from configs and saved to disk, so `run` executes the same code as for real models.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gendataagent.config import RunConfig
from gendataagent.core import files
from gendataagent.core.errors import ConfigError, DataError, ModelError
from gendataagent.generation.adaptation import read_adaptation
from gendataagent.generation.backends import build_backends
from gendataagent.generation.captioning import ImageToTextCaptioner
from gendataagent.report import write_report
from gendataagent.runs.results import read_result
from gendataagent.runs.run import resume, run
from tests.runs.test_resume import Interrupting, outcome
from tests.tables import rows_of
from tests.tiny_captioners import save_tiny_captioner
from tests.tiny_language import save_tiny_llama

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("paper-models")
    return {
        "captioner": str(save_tiny_captioner(folder / "blip2", "blip2")),
        "rewriter": str(save_tiny_llama(folder / "llama")),
    }


def paper_config(small: RunConfig, models: dict[str, str], cache: Path, **more: Any) -> RunConfig:
    tree = small.to_dict()
    tree["prompting"] |= {
        **models, "caption_tokens": 6, "rewrites": 2, "batch_size": 4,
        "caption_cache": str(cache),
    }  # fmt: skip
    tree["adaptation"] |= {
        "enabled": True, "epochs": 2, "batch_size": 8, "learning_rate": 1e-3, "measure_images": 8,
        "sample_every_epochs": 2, "checkpoint_every_steps": 2,
    }  # fmt: skip
    for section, values in more.items():
        tree[section] |= values
    return RunConfig.from_dict(tree)


def test_a_run_with_large_model_families_records_what_made_each_image(
    small_config: RunConfig, models: dict[str, str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    config = paper_config(small_config, models, tmp_path / "cache")
    out = tmp_path / "run"
    result = run(config, out)

    manifest = files.read_json(out / "manifest.json")
    assert manifest["captioner"]["name"].endswith("blip2")
    assert manifest["rewriter"]["name"].endswith("llama")
    adaptation = read_adaptation(out / "adaptation")
    assert (adaptation.images, adaptation.epochs) == (24, 2)
    assert adaptation.distances is not None
    assert result.seconds["adapt"] > 0

    (first, _) = result.rounds
    candidates = [
        row for number in range(2)
        for row in rows_of(out / "rounds" / f"{number:03d}" / "judged.parquet")
    ]  # fmt: skip
    # A Llama with random weights babbles: the template takes over, and every refusal is counted.
    written = {key: n for key, n in first.rewriting.items() if not key.startswith("refused")}
    assert sum(written.values()) == first.made
    assert written.get("replaced by visible-attributes", 0) > 0
    assert any(key.startswith("refused: ") for key in first.rewriting)
    assert "+lora:" in manifest["generator"]["revision"]
    for row in candidates:
        assert row["prompt"].startswith(f"A photo of {row['class_name']}")
        made_by = {"name": row["generator"], "revision": row["generator_revision"]}
        assert made_by == manifest["generator"]
    captions = files.read_jsonl(out / "adaptation" / "prompts.jsonl")
    assert len(captions) == 24  # every training image was captioned, once
    assert len(list((tmp_path / "cache").rglob("*.jsonl"))) == 1
    stages = {"select", "caption", "rewrite", "render", "filter"}
    assert set(first.peak_memory_mib) == stages

    page = write_report(out).read_text("utf-8")
    for part in ("Replies of the rewriter", "replaced by visible-attributes", "before adaptation",
                 "Peak memory per stage"):  # fmt: skip
        assert part in page

    # Another run costs no caption: whatever is asked of the captioner is an error now.
    monkeypatch.setattr(ImageToTextCaptioner, "caption_batches", _never)
    again = replace(config, adaptation=replace(config.adaptation, enabled=False))
    assert run(again, tmp_path / "again").images_made == result.images_made


def _never(*_: Any) -> Any:
    raise AssertionError("the captioner was asked")


def test_stopped_anywhere_it_ends_the_same(
    small_config: RunConfig, models: dict[str, str], tmp_path: Path
) -> None:
    config = paper_config(small_config, models, tmp_path / "cache", agent={"rounds": 1})
    counting = Interrupting()
    run(config, tmp_path / "whole", progress=counting)
    expected = outcome(tmp_path / "whole")
    out = tmp_path / "stopped"
    partial_run = functools.partial(run, config, out)
    for part in (0.2, 0.45, 0.7):
        at = int(counting.events * part)
        go_on = functools.partial(resume, out) if out.exists() else partial_run
        with pytest.raises(KeyboardInterrupt):
            go_on(progress=Interrupting(at=at if go_on is partial_run else max(2, at // 4)))
    resume(out)
    assert outcome(out) == expected
    whole = files.read_json(tmp_path / "whole" / "manifest.json")
    assert files.read_json(out / "manifest.json")["generator"] == whole["generator"]
    assert (
        read_adaptation(out / "adaptation").files
        == read_adaptation(tmp_path / "whole" / "adaptation").files
    )


@pytest.mark.parametrize(
    ("section", "key"),
    [("prompting", "captioner"), ("prompting", "rewriter"), ("classifier", "model")],
)
def test_an_incomplete_download_is_reported_before_the_run_has_cost_anything(
    section: str, key: str, small_config: RunConfig, models: dict[str, str], tmp_path: Path
) -> None:
    broken = tmp_path / "half"
    broken.mkdir()
    (broken / "config.json").write_text('{"model_type": "resnet"}')
    config = paper_config(
        small_config, models, tmp_path / "cache", **{section: {key: str(broken)}},
        agent={"baseline": True},
    )  # fmt: skip
    with pytest.raises(ModelError, match=f"{section}.{key}.*no safetensors weights"):
        run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_your_own_backends_are_not_adapted(
    small_config: RunConfig, models: dict[str, str], tmp_path: Path
) -> None:
    config = paper_config(small_config, models, tmp_path / "cache")
    with pytest.raises(ConfigError, match="adapt your generator yourself"):
        run(config, tmp_path / "run", backends=build_backends(small_config))


def test_a_baseline_needs_no_adaptation(
    small_config: RunConfig, models: dict[str, str], tmp_path: Path
) -> None:
    config = paper_config(
        small_config, models, tmp_path / "cache", agent={"baseline": True, "rounds": 1}
    )
    result = run(config, tmp_path / "run")
    assert result.baseline is not None
    assert not (tmp_path / "run" / "baseline" / "adaptation").exists()
    assert read_result(tmp_path / "run").images_made > 0


def test_missing_images_are_reported_before_any_model_is_checked(
    small_config: RunConfig, models: dict[str, str], tmp_path: Path
) -> None:
    nowhere = {"data": {"path": str(tmp_path / "nowhere")}, "classifier": {"model": "no/such"}}
    config = paper_config(small_config, models, tmp_path / "cache", **nowhere)
    with pytest.raises(DataError, match="does not exist"):
        run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_cached_images_from_before_the_adaptation_are_not_reused(
    small_config: RunConfig, models: dict[str, str], tmp_path: Path
) -> None:
    cache = {"image_cache": str(tmp_path / "images")}
    config = paper_config(
        small_config, models, tmp_path / "cache", generation=cache, agent={"rounds": 1}
    )
    plain = replace(config, adaptation=replace(config.adaptation, enabled=False))
    run(plain, tmp_path / "plain")
    run(config, tmp_path / "adapted")
    plain_pool, adapted_pool = (
        {path.name: path.read_bytes() for path in (tmp_path / name / "pool").rglob("*.png")}
        for name in ("plain", "adapted")
    )
    assert plain_pool.keys() == adapted_pool.keys()
    assert all(plain_pool[name] != adapted_pool[name] for name in plain_pool)
