"""A run with a LoRA for few steps, beside an adaptation that is trained without it."""

from __future__ import annotations

from pathlib import Path

import pytest

from gendataagent.config import AUTO, RunConfig
from gendataagent.config.run_config_file import read_run_config
from gendataagent.core.record_table import RecordTable
from gendataagent.core.records import Candidate
from gendataagent.core.run_folder import RunFolder
from gendataagent.generation.adaptation import adapting
from gendataagent.generation.adaptation.job import AdaptationJob
from gendataagent.runs.run import resume, run
from tests.tiny_models import save_tiny_lora

pytestmark = pytest.mark.integration


def test_an_adapted_generator_draws_in_few_steps(
    small_config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lora = save_tiny_lora(tmp_path / "hyper-sd").rename(tmp_path / "Hyper-SD15-4steps.safetensors")
    tree = small_config.to_dict()
    left_open = dict.fromkeys(("scheduler", "num_inference_steps", "guidance_scale"), AUTO)
    tree["generation"] |= {**left_open, "few_step_lora": str(lora)}
    tree["adaptation"] |= {"enabled": True, "epochs": 1, "measure_images": 0,
                           "sample_every_epochs": 0}  # fmt: skip
    jobs: list[AdaptationJob] = []
    adapt_job = adapting._adapt

    def watching(job: AdaptationJob) -> None:
        jobs.append(job)
        adapt_job(job)

    monkeypatch.setattr(adapting, "_adapt", watching)
    run(RunConfig.from_dict(tree), tmp_path / "run")
    (job,) = jobs
    assert [one.setting for one in job.spec.loras] == []
    assert (job.config.generation.steps, job.config.generation.guidance) == (30, 7.5)
    folder = RunFolder.open(tmp_path / "run")
    decided = read_run_config(folder).generation
    assert (decided.num_inference_steps, decided.guidance_scale) == (4, 0.0)
    assert decided.scheduler == "DDIMScheduler:trailing"
    manifest = folder.read_manifest()
    assert manifest.generator is not None
    assert manifest.generator.revision.count("+lora:") == 2
    assert sum("recognised as Hyper-SD" in note for note in manifest.notes) == 1
    made = RecordTable.read(Candidate, folder.round(0) / "judged.parquet")
    assert set(made.column("num_inference_steps")) == {4}
    assert set(made.column("guidance_scale")) == {0.0}
    resume(tmp_path / "run")
