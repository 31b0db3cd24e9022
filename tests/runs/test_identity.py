"""A run resumes with the same content wherever it is, and refuses any other."""

from __future__ import annotations

import io
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from gendataagent.cli import app
from gendataagent.config import RunConfig
from gendataagent.config.run_config_file import read_run_config
from gendataagent.core.errors import RunFolderError
from gendataagent.core.run_folder import RunFolder
from gendataagent.runs.identity import _different_part
from gendataagent.runs.run import resume, run
from gendataagent.runs.verify import verify
from tests.runs.test_resume import Interrupting, outcome
from tests.small_world import settings_for

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def config(photo_folder: Path, tiny_pipeline_folder: Path) -> RunConfig:
    config = settings_for(photo_folder, tiny_pipeline_folder)
    short = replace(config.agent, rounds=1)
    return replace(config, agent=short, training=replace(config.training, epochs=3))


@pytest.fixture(scope="module")
def finished(config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("finished") / "run"
    run(config, path)
    return path


@pytest.fixture
def moved(config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of relative paths, stopped; then data and generator moved, and the working folder."""
    shutil.copytree(config.data.path, tmp_path / "photos")
    shutil.copytree(config.generation.generator, tmp_path / "sd")
    monkeypatch.chdir(tmp_path)
    relative = replace(
        config,
        data=replace(config.data, path="photos"),
        generation=replace(config.generation, generator="sd"),
    )

    class AtFirstImages(Interrupting):
        def advance(self, amount: float = 1) -> None:
            if (tmp_path / "run" / "rounds" / "000" / "rendered.jsonl").exists():
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(relative, "run", progress=AtFirstImages())
    (tmp_path / "new").mkdir()
    for name in ("photos", "sd", "run"):
        (tmp_path / name).rename(tmp_path / "new" / f"{name}-moved")
    for path in (tmp_path / "new" / "photos-moved").rglob("*"):
        os.utime(path, (1, 1))
    monkeypatch.chdir("/")
    return tmp_path / "new"


def pixels_of(png: bytes) -> bytes:
    """Without the text inside, which has the name of the generator's folder."""
    with Image.open(io.BytesIO(png)) as image:
        return image.tobytes()


def new_settings(moved: Path) -> RunConfig:
    stored = read_run_config(RunFolder(moved / "run-moved"))
    return replace(
        stored,
        data=replace(stored.data, path=str(moved / "photos-moved")),
        generation=replace(stored.generation, generator=str(moved / "sd-moved")),
    )


def test_the_same_content_at_new_places_resumes_to_the_same_end(
    moved: Path, finished: Path
) -> None:
    resume(moved / "run-moved", config=new_settings(moved))
    mine, theirs = outcome(moved / "run-moved"), outcome(finished)
    for found in (mine, theirs):
        for rows in found["judged"].values():
            for row in rows:
                row.pop("generator")  # the name of its folder
        found["images"] = {name: pixels_of(png) for name, png in found["images"].items()}
    assert mine == theirs
    assert read_run_config(RunFolder(moved / "run-moved")) == new_settings(moved)
    assert all(part.whole for part in verify(moved / "run-moved", images=True))


def test_other_images_at_the_new_place_are_refused_and_the_settings_stay(moved: Path) -> None:
    first, second = (
        next(folder.iterdir())
        for folder in sorted((moved / "photos-moved" / "train").iterdir())[:2]
    )
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)
    before = read_run_config(RunFolder(moved / "run-moved"))
    with pytest.raises(RunFolderError, match=r"other content: train/airplane/"):
        resume(moved / "run-moved", config=new_settings(moved))
    assert read_run_config(RunFolder(moved / "run-moved")) == before


def test_other_weights_under_the_same_name_are_refused(moved: Path) -> None:
    weights = next((moved / "sd-moved" / "unet").glob("*.safetensors"))
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(RunFolderError, match=r"generation\.generator: .*files have changed"):
        resume(moved / "run-moved", config=new_settings(moved))


def test_a_setting_changed_by_hand_is_refused(moved: Path) -> None:
    file = moved / "run-moved" / "config.toml"
    text = new_settings(moved).to_toml()
    file.write_text(text.replace("drop_share = 0.4", "drop_share = 0.5"), encoding="utf-8")
    with pytest.raises(RunFolderError, match=r"config\.toml has changed since the run"):
        resume(moved / "run-moved")


def test_a_finished_run_takes_the_new_place_of_its_images(
    finished: Path, config: RunConfig, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "run"))
    data = Path(shutil.copytree(config.data.path, tmp_path / "photos"))
    command = ["run", "--resume", str(folder), "--data", str(data)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert read_run_config(RunFolder(folder)).data.path == str(data)
    next((data / "test").rglob("*.png")).unlink()
    elsewhere = Path(shutil.copytree(data, tmp_path / "other"))
    stored = read_run_config(RunFolder(folder))
    with pytest.raises(RunFolderError, match="missing: test/"):
        resume(folder, config=replace(stored, data=replace(stored.data, path=str(elsewhere))))


COMMIT = "0123456789abcdef" * 2 + "01234567"


@pytest.mark.parametrize(
    ("then", "now", "part"),
    [
        ("ab12", "ab12", None),
        ("ab12", "ab13", ""),
        ("", "ab13", None),
        (COMMIT, "ab13", None),  # a commit and a hash
        (COMMIT, COMMIT[:-1] + "8", ""),
        ("ab12+controlnet:cd@0.75/120-200", "ab12+controlnet:ce@0.75/120-200", "controlnet"),
        (f"+controlnet:{COMMIT}@1/120-200", f"ab12+controlnet:{COMMIT}@1/120-200", None),
        ("ab12+controlnet:@1/120-200", f"ab12+controlnet:{COMMIT}@1/120-200", None),
        ("ab12+controlnet:cd@1/1-2+lora:ef@0.5", "ab12+controlnet:cd@1/1-2+lora:e0@0.5", "lora"),
        ("ab12+lora:a/b@0.5", "ab12+lora:a/b@0.7", "lora"),
    ],
)
def test_which_part_of_a_model_is_another_one(then: str, now: str, part: str | None) -> None:
    assert _different_part(then, now) == part
