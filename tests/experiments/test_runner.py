"""Minimal experiments: run, interrupted, resumed, shared, written."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from gendataagent.config.settings import merged
from gendataagent.core import files
from gendataagent.core.errors import GenerationError, RunFolderError
from gendataagent.experiments import (
    Arm,
    Benchmark,
    plan_experiment,
    read_rows,
    run_experiment,
    runner,
)
from gendataagent.experiments.runner import (
    _next_index,
    _with_shared,
    check_generators,
    default_jobs,
    folder_of,
    is_done,
    run_task,
)
from gendataagent.experiments.writing import write_results
from gendataagent.generation.diffusion import DiffusionFactory
from gendataagent.runs.run import run
from tests.runs.test_resume import outcome
from tests.tables import rows_of
from tests.tiny_models import save_tiny_pipeline

pytestmark = pytest.mark.integration


def test_arms_run_and_share_images_and_warm_up(
    benchmark: Benchmark, finished: Path, tmp_path: Path
) -> None:
    out = finished
    rows = read_rows(out / "results.parquet")
    assert [row["arm"] for row in rows] == ["only-real", "vog-only", "at-random"]
    real, vog, random = rows
    assert (real["generated"], real["memorisation"]) == (0, None)
    assert vog["generated"] == random["generated"] == 24  # as many as training images
    assert len({row["optimizer_steps"] for row in rows}) == 1
    for row in rows:
        assert 0 <= row["gaussian_blur_1"] <= 1
        assert row["test_repeats_in_train"] == 0
    assert 0 <= vog["memorisation_without_source"] <= 1

    tasks = {task.arm: task for task in plan_experiment(benchmark)}
    images = len(list((out / "shared" / "images").rglob("*.json")))
    assert images == vog["generated"]  # the second arm asked for the same ones
    assert len(list((out / "shared" / "warm-up").glob("*/COMPLETE"))) == 1

    # Sharing changes nothing: the same run on its own has the same outcome.
    alone = replace(tasks["vog-only"].config, threads=1)
    run(alone, tmp_path / "alone")
    assert outcome(folder_of(tasks["vog-only"], out)) == outcome(tmp_path / "alone")


def test_a_benchmark_of_seconds_shares_no_images(benchmark: Benchmark, tmp_path: Path) -> None:
    for shares in (True, False):
        for task in plan_experiment(replace(benchmark, shares_images=shares)):
            config = _with_shared(task, tmp_path)
            assert bool(config.generation.image_cache) == shares
            assert config.prompting.caption_cache == str(tmp_path / "shared" / "captions")


def test_a_second_call_runs_only_missing_tasks(benchmark: Benchmark, out: Path) -> None:
    tasks = plan_experiment(benchmark)
    times = [(folder_of(task, out) / "DONE").stat().st_mtime_ns for task in tasks]
    more = replace(benchmark, arms=benchmark.arms[:2], seeds=(7, 8))
    (folder_of(tasks[0], out) / "measures.json").unlink()
    rows = run_experiment(more, out, jobs=2)
    assert [(row["arm"], row["seed"]) for row in rows] == [
        (arm, seed) for arm in ("only-real", "vog-only") for seed in (7, 8)
    ]
    assert [(folder_of(t, out) / "DONE").stat().st_mtime_ns for t in tasks] == times


def test_another_experiment_in_the_same_folder_reuses_runs_with_equal_settings(
    benchmark: Benchmark, out: Path
) -> None:
    before = {path: path.stat().st_mtime_ns for path in out.glob("runs/*/*")}
    arms = (benchmark.arms[1], replace(benchmark.arms[2], name="another-name"), benchmark.arms[0])
    other = replace(benchmark, name="other", baseline="vog-only", arms=arms)
    rows = run_experiment(other, out, jobs=1)
    assert [row["arm"] for row in rows] == ["vog-only", "another-name", "only-real"]
    assert {path: path.stat().st_mtime_ns for path in before} == before
    new = {path.parent.name for path in out.glob("runs/*/*")} - {p.parent.name for p in before}
    assert [name.rpartition("-seed")[0] for name in new] == ["another-name"]
    assert rows[1]["top1"] == read_rows(out / "results.parquet")[1]["top1"]


def test_runs_of_another_generator_are_refused(
    benchmark: Benchmark, tiny_pipeline_folder: Path, tmp_path: Path
) -> None:
    weights = tmp_path / "weights"
    shutil.copytree(tiny_pipeline_folder, weights)
    of_weights = merged(benchmark.base, {"generation": {"generator": str(weights)}})
    benchmark = replace(benchmark, base=of_weights, arms=benchmark.arms[:2])
    out = tmp_path / "exp"
    (task,) = [task for task in plan_experiment(benchmark) if task.arm == "vog-only"]
    run_task(task, out)
    check_generators([task], out)
    then = files.read_json(folder_of(task, out) / "manifest.json")["generator"]["revision"]
    shutil.rmtree(weights)
    save_tiny_pipeline(weights, seed=1)
    with pytest.raises(RunFolderError) as caught:
        run_experiment(benchmark, out, jobs=1)
    now = DiffusionFactory(model=str(weights)).describe().revision
    assert now != then
    for part in (f"generator weights, revision {then};", f"weights, revision {now}. ", "--out"):
        assert part in str(caught.value)
    assert folder_of(task, out).name in str(caught.value)
    assert len(list((out / "runs").iterdir())) == 1  # nothing was started
    run_experiment(replace(benchmark, arms=benchmark.arms[:1]), out, jobs=1)  # needs no generator


def test_a_killed_worker_is_reported_and_its_run_resumes(
    benchmark: Benchmark, finished: Path, tmp_path: Path
) -> None:
    benchmark = replace(benchmark, arms=benchmark.arms[1:2])
    (task,) = plan_experiment(benchmark)
    rendered = folder_of(task, tmp_path) / "rounds" / "000" / "rendered.jsonl"

    def kill() -> None:
        while not rendered.exists():
            time.sleep(0.01)
        for process in multiprocessing.active_children():
            process.kill()

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    with pytest.raises(GenerationError, match="a worker process died"):
        run_experiment(benchmark, tmp_path, jobs=1)
    thread.join()
    assert not is_done(task, tmp_path)
    begun = rendered.read_bytes()
    run_experiment(benchmark, tmp_path, jobs=1)
    assert rendered.read_bytes().startswith(begun)
    assert outcome(folder_of(task, tmp_path)) == outcome(folder_of(task, finished))


def test_a_partial_copy_of_a_killed_process_does_no_harm(
    benchmark: Benchmark, finished: Path, tmp_path: Path
) -> None:
    """Process ids repeat, in containers even from run to run."""
    (task,) = plan_experiment(replace(benchmark, arms=benchmark.arms[1:2]))
    folder = folder_of(task, tmp_path)
    left = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.copytree(folder_of(task, finished) / "checkpoints", left / "checkpoints")
    (left / "config.toml").touch()
    assert run_task(task, tmp_path).failure == ""
    assert not left.exists()
    assert outcome(folder) == outcome(folder_of(task, finished))


def test_a_failing_arm_is_reported_and_does_not_stop_the_others(
    benchmark: Benchmark, tmp_path: Path
) -> None:
    broken = {"training": {"learning_rate": 1e9, "warmup_epochs": 0}}
    arms = (Arm(name="broken", strategy="only-real", settings=broken), benchmark.arms[0])
    with pytest.raises(GenerationError, match="1 of 2 runs failed, the first: "):
        run_experiment(replace(benchmark, arms=arms), tmp_path, jobs=1)
    assert [row["arm"] for row in read_rows(tmp_path / "results.parquet")] == ["only-real"]


@pytest.mark.slow
def test_a_killed_experiment_resumes_inside_the_run(
    benchmark: Benchmark, finished: Path, tmp_path: Path
) -> None:
    tasks = plan_experiment(benchmark)
    script = (
        "import json, sys\n"
        "from pathlib import Path\n"
        "from gendataagent.experiments import Arm, Benchmark, run_experiment\n"
        "row = json.loads(Path(sys.argv[1]).read_text())\n"
        "arms = tuple(Arm(**arm) for arm in row.pop('arms'))\n"
        "if __name__ == '__main__':\n"
        "    run_experiment(Benchmark(arms=arms, seeds=(7,), **row), sys.argv[2], jobs=1)\n"
    )
    facts = {
        "name": benchmark.name, "about": benchmark.about, "base": benchmark.base,
        "baseline": benchmark.baseline,
        "arms": [{"name": a.name, "strategy": a.strategy, "settings": dict(a.settings)}
                 for a in benchmark.arms],
    }  # fmt: skip
    (tmp_path / "benchmark.json").write_text(json.dumps(facts))
    (tmp_path / "go.py").write_text(script)
    out = tmp_path / "killed"
    command = [sys.executable, str(tmp_path / "go.py"), str(tmp_path / "benchmark.json"), str(out)]
    process = subprocess.Popen(command, start_new_session=True)
    target = folder_of(tasks[1], out)
    deadline = time.monotonic() + 120
    while not list(target.glob("rounds/000/rendered.jsonl")) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    subprocess.run(command, check=True, timeout=200)
    for task in tasks:
        assert is_done(task, out)
        assert outcome(folder_of(task, out)) == outcome(folder_of(task, finished))


@pytest.mark.slow
def test_the_generator_is_adapted_once_for_all_arms_of_a_seed(
    benchmark: Benchmark, tmp_path: Path
) -> None:
    adaptation = {"enabled": True, "epochs": 1, "measure_images": 0, "sample_every_epochs": 0}
    run_experiment(benchmark, tmp_path, settings={"adaptation": adaptation}, jobs=1)
    assert len(list((tmp_path / "shared" / "adapted").glob("*/adaptation.json"))) == 1
    tasks = plan_experiment(benchmark, {"adaptation": adaptation})
    for task in tasks[1:]:
        rows = rows_of(folder_of(task, tmp_path) / "rounds" / "000" / "judged.parquet")
        assert all("+lora:" in row["generator_revision"] for row in rows)


def test_parallel_runs_are_of_different_seeds_if_possible(
    benchmark: Benchmark,
) -> None:
    tasks = plan_experiment(replace(benchmark, seeds=(0, 1, 2)))  # three arms each, seed by seed
    assert [task.seed for task in tasks] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert _next_index(tasks, []) == 0
    assert _next_index(tasks[1:], tasks[:1]) == 2  # the first of seed 1
    assert _next_index(tasks[1:], [tasks[0], tasks[3]]) == 5  # the first of seed 2
    assert _next_index(tasks[1:3], tasks[:1]) == 0  # no other seed is left


def test_the_page_has_tables_and_facts_about_the_runs(benchmark: Benchmark, tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"arm": arm, "seed": seed, "top1": 0.4 + seed / 100 + bonus, "worst_class": 0.1}
        for arm, bonus in (("only-real", 0.0), ("vog-only", 0.1))
        for seed in (0, 1)
    ]
    text = write_results(rows, tmp_path, benchmark=benchmark).read_text("utf-8")
    for part in ("# small", "4 runs; seeds 0, 1", "| vog-only |", "+10.0 [+10.0, +10.0] *"):
        assert part in text
    assert "39,280" not in text  # its generator is not the bundled one


def test_a_plan_has_every_run_seed_by_seed(benchmark: Benchmark) -> None:
    tasks = plan_experiment(replace(benchmark, seeds=(0, 1)))
    assert [(task.seed, task.arm) for task in tasks] == [
        (seed, arm.name) for seed in (0, 1) for arm in benchmark.arms
    ]


def test_one_run_a_core_or_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert default_jobs("cpu") == (os.cpu_count() or 1)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,7")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert default_jobs("cuda") == 3
    assert default_jobs("cuda:1") == default_jobs("mps") == 1


def test_each_worker_takes_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "start_worker", lambda: None)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    turns = multiprocessing.get_context("spawn").SimpleQueue()
    for gpu in ("4", "5"):
        turns.put(gpu)
    taken = []
    for _ in range(2):
        runner._start_worker(turns)
        taken.append(os.environ["CUDA_VISIBLE_DEVICES"])
    assert taken == ["4", "5"]
