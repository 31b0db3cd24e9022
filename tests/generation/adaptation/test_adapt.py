"""`adapt` from start to end: the files it writes, and interruptions of every kind."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gendataagent.config import RunConfig
from gendataagent.core import files, journal
from gendataagent.core.devices import adaptation_precision
from gendataagent.core.errors import ConfigError, DataError, RunFolderError, StorageError
from gendataagent.core.progress import Stage
from gendataagent.core.protocols import CaptionRequest
from gendataagent.core.run_folder import RunFolder
from gendataagent.data import LabelledImages
from gendataagent.generation.adaptation import Adaptation, adapt, read_adaptation
from gendataagent.generation.plain import NoCaption
from gendataagent.generation.tiny.captioner import AttributeCaptioner
from tests.children import kill_once_written
from tests.generation.adaptation.conftest import make_images

pytestmark = pytest.mark.integration


def settings(generator: Path, **adaptation: Any) -> RunConfig:
    """For seven images: two steps an epoch (of three and of four), a checkpoint every second."""
    return RunConfig.from_dict(
        {
            "seed": 5,
            "device": "cpu",
            "threads": 1,
            "generation": {
                "generator": str(generator), "num_inference_steps": 2, "guidance_scale": 2.0,
            },
            "adaptation": {
                "epochs": 3, "batch_size": 3, "learning_rate": 1e-2, "measure_images": 4,
                "checkpoint_every_steps": 2, "sample_every_epochs": 2, **adaptation,
            },
        }
    )  # fmt: skip


TRAIN = make_images(7, size=(40, 32))
HELD_OUT = make_images(5, seed=1)


@pytest.fixture(scope="module")
def config(tiny_pipeline_folder: Path) -> RunConfig:
    return settings(tiny_pipeline_folder)


@pytest.fixture(scope="module")
def finished(config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Adaptation:
    """An adaptation without interruption."""
    out = tmp_path_factory.mktemp("adapted") / "new" / "lora"
    return adapt(config, TRAIN, out, reference=HELD_OUT)


def assert_same(found: Adaptation, expected: Adaptation) -> None:
    assert found.files == expected.files
    assert found.losses == expected.losses
    assert found.distances == expected.distances
    sheets = [*expected.folder.rglob("samples/*.png")]
    assert sheets
    for sheet in sheets:
        other = found.folder / sheet.relative_to(expected.folder)
        assert other.read_bytes() == sheet.read_bytes()


def test_the_folder_holds_the_files_of_a_finished_adaptation(finished: Adaptation) -> None:
    assert (finished.images, finished.epochs, finished.steps) == (7, 3, 6)
    assert (finished.size_px, finished.precision) == (32, adaptation_precision("auto", "cpu"))
    assert len(finished.losses) == 3
    assert finished.peak_memory_mib > 50
    assert set(finished.seconds) == {"caption", "measure", "sample", "train"}
    assert finished.generator.name == "tiny-random-sd"
    assert finished.settings["adaptation.learning_rate"] == 1e-2
    row = json.loads((finished.folder / "adaptation.json").read_text(encoding="utf-8"))
    (weights,) = finished.paths
    assert row["files"] == {weights.name: files.file_sha256(weights)}
    assert sorted(p.name for p in (finished.folder / "samples").iterdir()) == [
        "epoch-0000.png", "epoch-0002.png", "epoch-0003.png",
    ]  # fmt: skip
    with Image.open(finished.folder / "samples" / "epoch-0003.png") as sheet:
        assert sheet.size == (7 * 34 - 2, 2 * 34 - 2)
    assert RunConfig.from_toml(finished.folder / "config.toml").seed == 5


def test_the_distances_are_measured_against_held_out_images(finished: Adaptation) -> None:
    found = finished.distances
    assert found is not None
    assert (found.images, found.reference_images, found.lora_scale) == (4, 5, 0.5)
    assert found.floor is not None
    assert found.change.mmd2 == pytest.approx(found.after.mmd2 - found.before.mmd2)
    assert found.floor.mmd2 < found.before.mmd2  # noise of random weights is far from any image


def test_every_image_has_the_full_prompt_of_its_caption(finished: Adaptation) -> None:
    rows = files.read_jsonl(finished.folder / "prompts.jsonl")
    assert [row["id"] for row in rows] == list(TRAIN.ids)
    caption = AttributeCaptioner().caption(
        [CaptionRequest(image=TRAIN.image(1), class_name="ship", seed=0)]
    )[0]
    assert rows[1]["prompt"] == f"A photo of ship, which is {caption}"


def test_a_finished_adaptation_is_read_back(finished: Adaptation, config: RunConfig) -> None:
    before = {p: p.stat().st_mtime_ns for p in finished.folder.rglob("*.safetensors")}
    again = adapt(config, TRAIN, finished.folder, reference=HELD_OUT)
    assert again == finished == read_adaptation(finished.folder)
    assert {p: p.stat().st_mtime_ns for p in finished.folder.rglob("*.safetensors")} == before


class Interrupting:
    """A progress display that raises KeyboardInterrupt at its n-th event."""

    def __init__(self, at: int) -> None:
        self.left = at
        self.said: list[str] = []

    def _event(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def stage(
        self, name: str, total: int | None = None, unit: str = "", done: int = 0
    ) -> Iterator[Stage]:
        self._event()
        yield self

    def advance(self, amount: float = 1) -> None:
        self._event()

    def say(self, message: str) -> None:
        self.said.append(message)


def test_interrupted_anywhere_it_resumes_to_the_same_result(
    finished: Adaptation, config: RunConfig, tmp_path: Path
) -> None:
    out, stops, said = tmp_path / "lora", 0, []
    for events in (2, 4, 15, 7, 7, 1000):  # in captions, before, training, its end, after
        progress = Interrupting(events)
        with contextlib.suppress(KeyboardInterrupt):
            adapt(config, TRAIN, out, reference=HELD_OUT, progress=progress)
            break
        stops += 1
        said += progress.said
        assert not (out / "adaptation.json").exists()
    assert stops == 5
    assert any(line.startswith("resuming after step") for line in said)
    assert_same(read_adaptation(out), finished)


def stopped_after(step: int, config: RunConfig, out: Path) -> None:
    """Leave the folder of an adaptation interrupted after that step."""

    class AtStep(Interrupting):
        @contextlib.contextmanager
        def stage(
            self, name: str, total: int | None = None, unit: str = "", done: int = 0
        ) -> Iterator[Stage]:
            self.left = step if name == "adapt" else 10**9
            yield self

    with pytest.raises(KeyboardInterrupt):
        adapt(config, TRAIN, out, reference=HELD_OUT, progress=AtStep(1))


def test_a_damaged_checkpoint_loses_only_its_own_steps(
    finished: Adaptation, config: RunConfig, tmp_path: Path
) -> None:
    out = tmp_path / "lora"
    stopped_after(5, config, out)
    checkpoints = sorted((out / "checkpoints").iterdir())
    assert [p.name for p in checkpoints] == ["epoch-0002", "epoch-0004"]
    path = checkpoints[-1] / "tensors.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    progress = Interrupting(10**9)
    assert_same(adapt(config, TRAIN, out, reference=HELD_OUT, progress=progress), finished)
    assert any("damaged" in line and "the one before" in line for line in progress.said)
    assert "resuming after step 2 of 6" in progress.said


@pytest.mark.slow
def test_killed_anywhere_it_resumes_to_the_same_result(
    finished: Adaptation, config: RunConfig, tmp_path: Path
) -> None:
    out, toml = tmp_path / "lora", tmp_path / "config.toml"
    toml.write_text(config.to_toml(), encoding="utf-8")
    code = (
        "import sys, torch; torch.set_num_threads(1)\n"
        "from tests.generation.adaptation.test_adapt import HELD_OUT, TRAIN, RunConfig, adapt\n"
        "adapt(RunConfig.from_toml(sys.argv[1]), TRAIN, sys.argv[2], reference=HELD_OUT)\n"
    )
    command = [sys.executable, "-c", code, str(toml), str(out)]
    root = Path(__file__).resolve().parents[3]
    for until in ("prompts.jsonl", "before.safetensors", "checkpoints/epoch-0002",
                  "checkpoints/epoch-0006", "pytorch_lora_weights.safetensors"):  # fmt: skip
        kill_once_written(command, out / until, root)
    assert_same(adapt(config, TRAIN, out, reference=HELD_OUT), finished)


def test_other_settings_or_images_are_refused_by_name(
    finished: Adaptation, config: RunConfig
) -> None:
    other = replace(config, adaptation=replace(config.adaptation, rank=2))
    with pytest.raises(RunFolderError, match=r"adaptation\.rank is 4 there, not 2"):
        adapt(other, TRAIN, finished.folder)
    with pytest.raises(RunFolderError, match="images is"):
        adapt(config, make_images(6), finished.folder)
    with pytest.raises(RunFolderError, match="captioner is"):
        adapt(config, TRAIN, finished.folder, captioner=NoCaption())
    more_samples = replace(config, adaptation=replace(config.adaptation, sample_every_epochs=1))
    assert adapt(more_samples, TRAIN, finished.folder) == finished


def test_a_folder_with_a_link_that_leads_out_is_refused(config: RunConfig, tmp_path: Path) -> None:
    out = tmp_path / "adapted"
    out.mkdir()
    (tmp_path / "mine.json").write_text("{}", encoding="utf-8")
    (out / "settings.json").symlink_to("../mine.json")
    with pytest.raises(RunFolderError, match=r"settings\.json is a link that leads out"):
        adapt(config, TRAIN, out)
    assert (tmp_path / "mine.json").read_text(encoding="utf-8") == "{}"


def test_a_folder_with_other_files_or_in_use_is_refused(config: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work", encoding="utf-8")
    with pytest.raises(RunFolderError, match="holds no adaptation"):
        adapt(config, TRAIN, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]
    out = tmp_path / "taken"
    out.mkdir()
    with RunFolder(out).lock():
        (out / "settings.json").write_text("{}", encoding="utf-8")
        with pytest.raises(RunFolderError, match="another run or adaptation"):
            adapt(config, TRAIN, out)


def test_a_place_that_cannot_hold_an_adaptation_is_a_sentence(
    config: RunConfig, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"cannot create the folder .*; name one that you can"):
        adapt(config, TRAIN, tmp_path / "file" / "lora")


def test_changed_weights_are_refused(
    config: RunConfig, tiny_pipeline_folder: Path, tmp_path: Path
) -> None:
    brief = settings(tiny_pipeline_folder, epochs=1, measure_images=0, sample_every_epochs=0)
    found = adapt(brief, make_images(2), tmp_path)
    assert found.distances is None
    assert not (tmp_path / "samples").exists()
    found.paths[0].write_bytes(found.paths[0].read_bytes()[:-1] + b"\0")
    with pytest.raises(RunFolderError, match="was changed after it was written"):
        read_adaptation(tmp_path)
    (tmp_path / "adaptation.json").unlink()
    again = adapt(brief, make_images(2), tmp_path)
    assert again.files == found.files
    with pytest.raises(RunFolderError, match="holds no finished adaptation"):
        read_adaptation(tmp_path / "checkpoints")


class NamingTheOther:
    """A captioner that calls every image a cat."""

    description = NoCaption.description

    def __init__(self) -> None:
        self.seen = 0
        self.released = False

    def caption(self, requests: list[CaptionRequest]) -> list[str]:
        self.seen += len(requests)
        return ["a cat on grass"] * len(requests)

    def release(self) -> None:
        self.released = True


def test_small_sets_report_what_is_skipped(tiny_pipeline_folder: Path, tmp_path: Path) -> None:
    brief = settings(tiny_pipeline_folder, epochs=1, sample_every_epochs=0)
    progress, captioner = Interrupting(10**9), NamingTheOther()
    found = adapt(brief, make_images(2), tmp_path, captioner=captioner, progress=progress)  # type: ignore[arg-type]
    assert found.distances is None
    assert any("no distance is measured" in line for line in progress.said)
    assert any("each step uses all of them" in line for line in progress.said)
    assert (captioner.seen, captioner.released) == (2, True)
    prompts = [row["prompt"] for row in files.read_jsonl(tmp_path / "prompts.jsonl")]
    assert prompts == ["A photo of cat, which is a cat on grass", "A photo of ship"]


def test_without_held_out_images_there_is_no_floor(
    tiny_pipeline_folder: Path, tmp_path: Path
) -> None:
    found = adapt(settings(tiny_pipeline_folder, epochs=1), TRAIN, tmp_path).distances
    assert found is not None
    assert found.floor is None
    assert found.reference_images == len(TRAIN)


def test_bad_input_fails_before_captioning(config: RunConfig, tmp_path: Path) -> None:
    adapted = replace(config, generation=replace(config.generation, lora="somewhere"))
    captioner = NamingTheOther()
    none = LabelledImages.from_images([], [], class_names=["cat"], ids=[])
    small = replace(config, adaptation=replace(config.adaptation, batch_size=1))
    for number, (settings_, images, kind, words) in enumerate(
        (
            (adapted, TRAIN, ConfigError, r"generation\.lora must be empty"),
            (config, none, DataError, "at least 2 images, got 0"),
            (small, TRAIN, ConfigError, "batch_size must be at least 2"),
        )
    ):
        with pytest.raises(kind, match=words):
            adapt(settings_, images, tmp_path / str(number), captioner=captioner)  # type: ignore[arg-type]
    assert captioner.seen == 0
    # the same folder accepts corrected settings
    corrected = replace(small, adaptation=replace(config.adaptation, epochs=1, measure_images=0))
    assert adapt(corrected, TRAIN, tmp_path / "2").epochs == 1


def test_half_precision_trains_and_loads(tiny_pipeline_folder: Path, tmp_path: Path) -> None:
    brief = settings(tiny_pipeline_folder, epochs=1, mixed_precision="bf16")
    found = adapt(brief, make_images(4), tmp_path)
    assert found.precision == "bf16"
    assert found.distances is not None


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_bundled_model_moves_nearer_to_held_out_images(tmp_path: Path) -> None:
    """Grey photographs: the model was trained on colour and has to learn grey from them."""
    from gendataagent.config import DataConfig
    from gendataagent.data import load_data

    splits = load_data(DataConfig(path="bundled:cifar10", train_per_class=10), seed=0)

    def grey(images: LabelledImages, count: int) -> LabelledImages:
        part = images.subset(range(0, len(images), len(images) // count)).subset(range(count))
        return LabelledImages.from_images(
            [part.image(i).convert("L").convert("RGB") for i in range(count)],
            part.labels, class_names=part.class_names, ids=part.ids,
        )  # fmt: skip

    config = RunConfig.from_dict(
        {
            "device": "cpu",
            "threads": 1,
            "prompting": {"captioner": "none"},
            "generation": {
                "generator": "tiny-sd", "num_inference_steps": 12, "guidance_scale": 2.0,
                "lora_scale": 1.0,
            },
            "adaptation": {
                "epochs": 16, "batch_size": 32, "rank": 8, "learning_rate": 5e-3,
                "measure_images": 96, "sample_every_epochs": 0,
            },
        }
    )  # fmt: skip
    found = adapt(config, grey(splits.train, 96), tmp_path, reference=grey(splits.validation, 200))
    assert found.distances is not None
    change = found.distances.change
    assert change.mmd2 < -1.5 * change.standard_error
    assert found.distances.after.mmd2 < 0.75 * found.distances.before.mmd2


@pytest.mark.parametrize("name", ["sha256.jsonl", "settings.json", "config.toml", "prompts.jsonl"])
def test_a_disk_that_is_full_before_one_of_the_first_files_blocks_nothing(
    name: str,
    config: RunConfig,
    finished: Adaptation,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is half made then is the adaptation's own, not a stranger's folder."""
    write_bytes, append_row = files.write_bytes, journal.append_row

    def full(path: Path, content: Any, write: Any) -> None:
        if path.name == name:
            (path.parent / f".{name}.4711.tmp").touch()  # as a kill leaves it
            raise StorageError("the disk is full")
        write(path, content)

    monkeypatch.setattr(files, "write_bytes", lambda p, c: full(p, c, write_bytes))
    monkeypatch.setattr("gendataagent.core.seals.append_row", lambda p, c: full(p, c, append_row))
    with pytest.raises(StorageError):
        adapt(config, TRAIN, tmp_path / "lora", reference=HELD_OUT)
    monkeypatch.undo()
    assert_same(adapt(config, TRAIN, tmp_path / "lora", reference=HELD_OUT), finished)
