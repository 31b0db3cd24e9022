"""Code that comes with a model runs only if this very call permits it: no file can."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from gendataagent.config import RunConfig
from gendataagent.config.run_config_file import read_run_config
from gendataagent.config.settings import read_toml
from gendataagent.core.errors import ConfigError, GenDataAgentError
from gendataagent.core.run_folder import RunFolder
from gendataagent.runs.reload import evaluate_corrupted, evaluate_on, load_classifier
from gendataagent.runs.run import resume, run
from tests.cli.test_cli import _type
from tests.small_world import settings_for

CODE = """
from pathlib import Path
Path({mark!r}).touch()
from transformers import ResNetConfig, ResNetForImageClassification
class MyConfig(ResNetConfig):
    model_type = "resnet-of-mine"
class MyModel(ResNetForImageClassification):
    config_class = MyConfig
"""


@pytest.fixture(autouse=True)
def modules_of_this_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules")
    )


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """A file that exists once the code of the model has run."""
    return tmp_path / "the-code-has-run"


def give_code(model: Path, mark: Path) -> None:
    """Make a saved classifier of transformers one with its own code."""
    (model / "own_code.py").write_text(CODE.format(mark=str(mark)))
    config = json.loads((model / "config.json").read_text())
    config["model_type"] = "resnet-of-mine"
    config["auto_map"] = {
        "AutoConfig": "own_code.MyConfig",
        "AutoModelForImageClassification": "own_code.MyModel",
    }
    (model / "config.json").write_text(json.dumps(config))


def permit(run_folder: Path) -> None:
    """Write the permission into a run's settings, as a stranger or an older version may have."""
    for path in [run_folder, *run_folder.glob("baseline")]:
        text = (path / "config.toml").read_text()
        (path / "config.toml").write_text(f"trust_remote_code = true\n{text}")


@pytest.fixture
def settings(photo_folder: Path, tiny_pipeline_folder: Path) -> RunConfig:
    config = settings_for(photo_folder, tiny_pipeline_folder)
    return replace(
        config,
        agent=replace(config.agent, enabled=False),
        training=replace(config.training, epochs=1),
    )


@pytest.fixture
def finished(settings: RunConfig, mark: Path, tmp_path: Path) -> Path:
    """Somebody's finished run whose classifier has its own code, and whose settings permit it."""
    folder = tmp_path / "run"
    run(settings, folder)
    give_code(folder / "classifier", mark)
    permit(folder)
    RunFolder(folder).mark_done()  # sealed again: a stranger's folder is consistent
    return folder


def test_measuring_somebodys_run_runs_no_code_of_it(
    finished: Path, photo_folder: Path, mark: Path
) -> None:
    data = str(photo_folder)
    calls: list[Callable[..., object]] = [
        lambda **given: evaluate_on(finished, data, **given),
        lambda **given: evaluate_corrupted(finished, ["gaussian_blur"], [1], **given),
        lambda **given: load_classifier(finished, device="cpu", **given),
    ]
    for call in calls:
        with pytest.raises(GenDataAgentError, match=r"trust_remote_code|--trust-remote-code"):
            call()
        assert not mark.exists()
        call(trust_remote_code=True)
        assert mark.exists()
        mark.unlink()
        for name in [name for name in sys.modules if name.startswith("transformers_modules.")]:
            del sys.modules[name]  # or the code would not run a second time
        # the permission of one call is none for the next
        with pytest.raises(GenDataAgentError):
            call()


def test_on_the_command_line_each_call_needs_the_option(
    finished: Path,
    photo_folder: Path,
    mark: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    command = ["evaluate", str(finished), "--data", str(photo_folder)]
    assert _type(monkeypatch, *command) != 0
    assert "trust" in capsys.readouterr().err
    assert not mark.exists()
    for harmless in (["evaluate", str(finished)], ["report", str(finished)]):
        assert _type(monkeypatch, *harmless) == 0
    assert not mark.exists()
    assert _type(monkeypatch, *command, "--trust-remote-code") == 0
    assert mark.exists()


def test_resuming_somebodys_run_runs_no_code_of_its_model(
    settings: RunConfig,
    mark: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from transformers import ResNetConfig, ResNetForImageClassification

    model = tmp_path / "model"
    ResNetForImageClassification(
        ResNetConfig(embedding_size=8, hidden_sizes=[8], depths=[1], layer_type="basic")
    ).save_pretrained(model)
    give_code(model, mark)
    own = replace(settings.classifier, model=str(model), size_px=32)
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    folder.config_file.write_text(replace(settings, classifier=own).to_toml())
    permit(folder.path)
    for arguments in ([], ["--set", "device=cpu"]):
        assert _type(monkeypatch, "run", "--resume", str(folder.path), *arguments) != 0
        assert "--trust-remote-code" in capsys.readouterr().err
        assert not mark.exists()
        if not folder.path.exists():  # a run that could not start leaves nothing
            folder.path.mkdir()
            folder.config_file.write_text(replace(settings, classifier=own).to_toml())
            permit(folder.path)
    result = resume(folder.path, trust_remote_code=True)
    assert mark.exists()
    assert result.path == folder.path
    assert not read_run_config(folder).trust_remote_code


def test_no_file_of_settings_can_permit_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    allowed = RunConfig(trust_remote_code=True)
    assert "trust_remote_code" not in allowed.to_toml()
    assert allowed.results_hash() == RunConfig().results_hash()
    path = tmp_path / "settings.toml"
    path.write_text("trust_remote_code = true\n")
    assert read_toml(path) == {"trust_remote_code": True}
    for arguments in (["config", "--config"], ["config", "--strategy"]):
        assert _type(monkeypatch, *arguments, str(path)) != 0
    with pytest.raises(ConfigError, match=r"settings\.toml.*no effect in a file.*--trust-remote"):
        RunConfig.from_toml(path)
    path.write_text("trust_remote_code = false\n")
    assert RunConfig.from_toml(path) == RunConfig()
    # --set is part of the call
    assert RunConfig.from_toml(path, ["trust_remote_code=true"]).trust_remote_code
