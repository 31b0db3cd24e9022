"""Plans: counts equal those of the run's functions, facts are as counted, costs add up."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from gendataagent.config import RunConfig
from gendataagent.config.presets import preset_settings
from gendataagent.core.errors import ConfigError, DataError, GenDataAgentError, ModelError
from gendataagent.data import load_data
from gendataagent.runs import planning
from gendataagent.runs.planning import Plan, costs, find_device, make_plan
from gendataagent.runs.planning.costs import StageCost, generator_facts, image_flops
from gendataagent.runs.planning.counts import count_real, count_work
from gendataagent.runs.planning.devices import (
    MAIN_PROCESS_S_A_PX,
    TRAINING_EFFICIENCY,
    WORKER_EFFICIENCY,
)
from gendataagent.runs.planning.downloads import models_needed, weights_on_disk
from gendataagent.runs.planning.facts import (
    BACKBONES,
    CONTROLNETS,
    DECODERS,
    GENERATORS,
    GIB,
    at,
    find_gpu,
)
from gendataagent.runs.run import run
from tests.tiny_models import save_tiny_clip, save_tiny_controlnet

SD15 = GENERATORS["stable-diffusion-v1-5/stable-diffusion-v1-5"]
TINY_SD = GENERATORS["tiny-sd"]

OURS: dict[str, Any] = {
    "classifier": {"model": "tiny-resnet"},
    "prompting": {"captioner": "visible-attributes", "rewriter": "visible-attributes"},
    "generation": {"generator": "tiny-sd"},
}


def settings(**sections: Any) -> RunConfig:
    return RunConfig.from_dict(OURS | {k: OURS.get(k, {}) | v for k, v in sections.items()})


def test_images_are_counted_as_a_run_would_split_them() -> None:
    config = settings(data={"path": "bundled:cifar10", "train_per_class": 30})
    real, splits = count_real(config), load_data(config.data, seed=config.seed)
    # The plan decodes nothing: it does not know of near-duplicates that a run removes.
    removed = sum(pair.removed for pair in splits.near_duplicates if pair.split == "validation")
    sizes = {split: len(images) for split, images in splits.by_name().items()}
    assert (real.train, real.validation - removed, real.test) == tuple(sizes.values())
    assert real.train_per_class == (30,) * 10


@pytest.mark.parametrize(
    ("layout", "train", "test"), [("pets", 3_680, 3_669), ("cub", 5_994, 5_794)]
)
def test_without_data_the_papers_counts_are_used(layout: str, train: int, test: int) -> None:
    real = count_real(settings(data={"path": "", "layout": layout, "validation_share": 0.1}))
    assert (real.train + real.validation, real.test) == (train, test)
    assert real.validation == pytest.approx(train / 10, rel=0.02)
    assert "Table 5" in real.source


def test_an_unknown_number_of_images_is_an_error() -> None:
    with pytest.raises(ConfigError, match="--images N"):
        count_real(settings(data={"path": ""}))
    with pytest.raises(ConfigError, match="does not use the network"):
        count_real(settings(data={"path": "hub:uoft-cs/cifar10"}))
    with pytest.raises(DataError, match="does not exist"):
        count_real(settings(data={"path": "/no/such/images"}))


def test_optimiser_steps_follow_the_images_of_each_epoch() -> None:
    config = settings(
        data={"path": "", "layout": "folder", "validation_share": 0.1, "test_share": 0.1},
        training={"epochs": 6, "batch_size": 16},
        agent={"rounds": 2, "first_round_epoch": 2, "pool": "accumulate"},
        selection={"share": 0.25},
        prompting={"rewrites": 2},
        filter={"by": "none"},
    )
    real = count_real(config, images=100)
    counts = count_work(config, real)
    assert (real.train, counts.selected_per_round, counts.images_per_round) == (80, 20, 40)
    # epochs 1-2 on 80 images, 3-4 on 120, 5-6 on 160, in batches of 16
    assert counts.optimizer_steps == 2 * 5 + 2 * 8 + 2 * 10
    assert counts.training_images == 2 * (80 + 120 + 160)
    replaced = replace(config, agent=replace(config.agent, pool="replace"))
    assert count_work(replaced, real).optimizer_steps == 2 * 5 + 4 * 8
    # a last batch of one image joins the one before: 80 = 79 + 1, 120 = 79 + 41, 160 = 2 * 79 + 2
    odd = replace(config, training=replace(config.training, batch_size=79))
    assert count_work(odd, real).optimizer_steps == 2 * 1 + 2 * 2 + 2 * 3


def test_the_filter_acts_once_it_has_its_snapshots() -> None:
    config = settings(
        data={"path": "", "layout": "folder"},
        training={"epochs": 20},
        agent={"rounds": 4, "first_round_epoch": 5},
        filter={"snapshot_at": [0.25, 0.5, 0.75], "drop_share": 0.5},
    )
    counts = count_work(config, count_real(config, images=200))
    # rounds at 5, 8, 12, 16; snapshots at 5, 10, 15
    assert counts.filtered_rounds == 2
    assert counts.vog_passes == (2 + 3) * counts.images_per_round
    assert counts.kept_per_round == counts.images_per_round // 2


def test_adaptation_captions_every_image_and_counts_its_steps() -> None:
    config = settings(
        data={"path": "", "layout": "folder"}, adaptation={"enabled": True, "epochs": 3}
    )
    real = count_real(config, images=200)
    counts = count_work(config, real)
    assert counts.captions_least == counts.captions_most == real.train
    assert counts.adaptation_images == 3 * real.train
    from gendataagent.generation.adaptation.batches import epoch_batches

    for images in (1, 2, 8, 9, 10, 16, 17):
        sized = replace(real, train_per_class=(images,))
        expected = 3 * len(epoch_batches(0, 1, images, config.adaptation.batch_size))
        assert count_work(config, sized).adaptation_steps == expected


@pytest.mark.parametrize(
    ("changes", "steps", "read", "sheets"),
    [
        ({"kind": "tokens", "token_steps": 7}, 2 * 7, 2 * 7 * 4, 1 + 1),
        ({"kind": "lora+tokens"}, 3 * 5, 3 * 20, 1 + 1),
        ({"per_class": True}, 3 * (3 + 2), 3 * 20, 2 * (1 + 1)),
    ],
)
def test_adaptation_by_class_counts_its_steps(
    changes: dict[str, Any], steps: int, read: int, sheets: int
) -> None:
    adaptation = {"enabled": True, "epochs": 3, "batch_size": 4, "measure_images": 0, **changes}
    config = settings(data={"path": "", "layout": "folder"}, adaptation=adaptation)
    real = replace(count_real(config, images=200), train_per_class=(12, 8))
    counts = count_work(config, real)
    assert (counts.adaptation_steps, counts.adaptation_images) == (steps, read)
    assert counts.drawn_for_adaptation == 8 * sheets


def test_facts_equal_the_flop_counter() -> None:
    from diffusers import UNet2DConditionModel
    from torch.utils.flop_counter import FlopCounterMode

    from gendataagent.generation.tiny.model import model_folder

    unet = UNet2DConditionModel.from_pretrained(model_folder() / "unet", local_files_only=True)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        unet(torch.zeros(1, 8, 8, 8), torch.ones(1), torch.zeros(1, 77, 128))
    # on a CPU the counter does not see attention, 1 % here
    assert at(TINY_SD.unet_flops, 64) == pytest.approx(counter.get_total_flops(), rel=0.015)
    assert TINY_SD.unet_parameters == sum(p.numel() for p in unet.parameters())
    assert at(SD15.unet_flops, 64**2) == pytest.approx(0.803e12, rel=1e-3)  # counted independently
    assert at(SD15.encode_flops, 512**2) == pytest.approx(1.117e12, rel=1e-3)
    assert at(SD15.decode_flops, 512**2) == pytest.approx(2.515e12, rel=1e-3)


def test_guidance_doubles_the_cost_of_a_step() -> None:
    config = settings()
    guided = image_flops(SD15, 512, config, 22)
    assert guided == pytest.approx(39e12, rel=0.01)
    alone = replace(config, generation=replace(config.generation, guidance_scale=1.0))
    assert guided - image_flops(SD15, 512, alone, 22) == pytest.approx(22 * 0.803e12, rel=1e-3)


@pytest.mark.parametrize(
    ("name", "gib", "tflops"),
    [
        ("RTX 4090", 24, 165),
        ("NVIDIA GeForce RTX 4090", 24, 165),
        ("rtx4090", 24, 165),
        ("NVIDIA A100-SXM4-80GB", 80, 312),
        ("A100", 40, 312),
        ("NVIDIA H100 80GB HBM3", 80, 989),
        ("NVIDIA H100 PCIe", 80, 756),
        ("Tesla V100-SXM2-32GB", 32, 125),
        ("Tesla T4", 15, 65),
        ("NVIDIA L40S", 45, 362),
        ("NVIDIA RTX A6000", 48, 155),
    ],
)
def test_gpus_are_found_by_their_usual_and_their_drivers_names(
    name: str, gib: float, tflops: float
) -> None:
    found = find_gpu(name)
    assert found is not None
    assert (found.memory_bytes / GIB, found.flops_per_s / 1e12) == (gib, tflops)


def test_an_unknown_gpu_lists_the_known_ones() -> None:
    assert find_gpu("Voodoo 2") is None
    with pytest.raises(ConfigError, match=r"known are T4, .*H100"):
        find_device("Voodoo 2")


def test_seconds_follow_from_flops_and_the_assumed_rate() -> None:
    config = RunConfig.from_dict(preset_settings("paper-pets"))
    plan = make_plan(config, gpu="RTX 4090")
    (render,) = [stage for stage in plan.stages if stage.name == "render"]
    each = image_flops(SD15, 512, config, 27)
    assert plan.counts.images == 20 * 5 * round(0.2 * plan.real.train)
    assert render.flops == pytest.approx(plan.counts.images * each)
    assert render.seconds == pytest.approx(plan.counts.images * each / (165e12 * 0.2))
    twice = make_plan(config, gpu="RTX 4090", utilisation=0.4)
    assert twice.stages[3].seconds == pytest.approx((render.seconds or 0) / 2)
    assert plan.seconds == pytest.approx(sum(stage.seconds or 0 for stage in plan.stages))


def test_devices_share_the_images_until_the_main_process_is_the_bound() -> None:
    config = RunConfig.from_dict(preset_settings("paper-pets"))
    plans = {n: make_plan(config, gpu="H100", devices=n) for n in (1, 4, 32, 10_000)}
    of = {n: {stage.name: stage for stage in plan.stages} for n, plan in plans.items()}
    one = of[1]["render"].seconds or 0.0
    assert of[4]["render"].seconds == pytest.approx(one / (4 * WORKER_EFFICIENCY))
    assert of[32]["render"].seconds == pytest.approx(one / (32 * WORKER_EFFICIENCY))
    images = plans[1].counts.images
    assert of[10_000]["render"].seconds == pytest.approx(images * 512**2 * MAIN_PROCESS_S_A_PX)
    assert "bound by the main process" in of[10_000]["render"].note
    assert {of[devices]["render"].flops for devices in of} == {of[1]["render"].flops}


def test_gpus_of_one_machine_share_the_training() -> None:
    config = RunConfig.from_dict(preset_settings("paper-pets"))

    def train(devices: int, processes: int | str = "auto", **agent: Any) -> StageCost:
        training = replace(config.training, processes=processes)
        changed = replace(config, training=training, agent=replace(config.agent, **agent))
        plan = make_plan(changed, gpu="H100", devices=devices)
        assert any("the classifier is trained on" in a for a in plan.assumptions) is (
            plan.config.training.processes != 1
        )
        return next(stage for stage in plan.stages if stage.name == "train")

    one, four = train(1), train(4)
    assert four.seconds == pytest.approx((one.seconds or 0) / (4 * TRAINING_EFFICIENCY))
    assert (four.memory_bytes or 0) < (one.memory_bytes or 0)
    assert four.flops == one.flops
    assert train(32).seconds == train(8).seconds
    assert train(4, 1).seconds == one.seconds
    assert "processes" not in train(4, overlap=True).note  # the others make images meanwhile
    assert train(1, 4) == four


def test_more_processes_than_this_machine_allows_are_refused_by_a_plan_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    changed = {"training": {"processes": 2}, "data": {"path": "bundled:cifar10"}}
    assert (
        make_plan(RunConfig.from_dict({**changed, "device": "cpu"})).config.training.processes == 2
    )
    monkeypatch.setattr(planning, "resolve_device", lambda name: "cuda:1")
    with pytest.raises(ConfigError, match="device=cuda:1 is one device"):
        make_plan(RunConfig.from_dict(changed))


def test_a_stage_that_does_not_fit_into_memory_gives_advice() -> None:
    config = RunConfig.from_dict(preset_settings("paper-pets"))
    notes = " ".join(make_plan(config, gpu="T4").notes)
    assert "rewrite needs about 16 GiB of the 15 GiB" in notes
    assert "gated" in notes
    assert "give --data DIR, Oxford-IIIT Pets. Unpack images.tar.gz" in notes
    large = replace(config, training=replace(config.training, batch_size=1024, learning_rate=0.1))
    notes = " ".join(make_plan(large, gpu="RTX 4090").notes)
    assert "try training.batch_size=512 with training.learning_rate=0.05" in notes


def test_unknown_models_have_unknown_costs(tiny_pipeline_folder: Path) -> None:
    sections = {
        "data": {"path": "", "layout": "folder"},
        "classifier": {"model": "somebody/some-net"},
        "prompting": {"captioner": "somebody/some-captioner", "rewriter": "none"},
        "generation": {"generator": str(tiny_pipeline_folder)},
    }
    plan = make_plan(settings(**sections), images=100)
    by_name = {stage.name: stage for stage in plan.stages}
    assert by_name["render"].flops is by_name["train"].seconds is plan.seconds is None
    assert plan.disk.downloads is None
    (generator, *_) = plan.models
    assert (generator.where, generator.download_bytes) == ("on this machine", 0)
    assert "the size of somebody/some-net is not known here" in " ".join(plan.notes)
    assert generator_facts(str(tiny_pipeline_folder)) is None


def test_a_tiny_decoder_a_lora_and_few_steps_are_planned() -> None:
    """The LoRA is a file of a repository, without guidance a step is one pass."""
    config = RunConfig.from_dict(preset_settings("laptop"))
    facts = GENERATORS["stabilityai/sd-turbo"]
    assert image_flops(facts, 512, config, 2) == pytest.approx(
        at(facts.encode_flops, 512**2)
        + 2 * at(facts.unet_flops, 64**2)
        + at(DECODERS["madebyollin/taesd"].decode_flops, 512**2)
    )
    lora = "ByteDance/Hyper-SD/Hyper-SD15-4steps-lora.safetensors"
    few = replace(
        config, generation=replace(config.generation, few_step_lora=lora, decoder="own/decoder")
    )
    plan = make_plan(few, gpu="L4", images=100)
    needed = {model.setting: (model.name, model.where) for model in plan.models}
    assert needed["generation.few_step_lora"] == (lora, "hub")
    assert needed["generation.decoder"] == ("own/decoder", "hub")
    assert "a tiny one costs less" in {s.name: s.note for s in plan.stages}["render"]
    assert plan.counts.steps_per_image == 2
    assert sum("recognised as Hyper-SD" in note for note in plan.notes) == 1


def test_a_folder_is_recognised_by_its_unet_config(tmp_path: Path) -> None:
    (tmp_path / "unet").mkdir()
    config = {"block_out_channels": [320, 640, 1280, 1280], "cross_attention_dim": 768}
    (tmp_path / "unet" / "config.json").write_text(json.dumps(config))
    assert generator_facts(str(tmp_path)) == SD15


def test_sdxl_turbo_is_planned_at_its_own_size() -> None:
    turbo = GENERATORS["stabilityai/sdxl-turbo"]
    base = GENERATORS["stabilityai/stable-diffusion-xl-base-1.0"]
    assert (turbo.size_px, base.size_px) == (512, 1024)
    assert turbo.unet_flops == base.unet_flops


def test_plan_and_adaptation_agree_on_small_gpus() -> None:
    from gendataagent.generation.adaptation import trainer

    assert costs.SMALL_GPU_BYTES == trainer.SMALL_GPU_BYTES


def test_weights_on_disk_are_counted_from_the_headers(tiny_pipeline_folder: Path) -> None:
    size, parameters = weights_on_disk(tiny_pipeline_folder)
    files = list(tiny_pipeline_folder.rglob("*.safetensors"))
    assert size == sum(file.stat().st_size for file in files)
    assert parameters == pytest.approx(size / 4, rel=0.2)  # float32, and the headers
    (tiny_pipeline_folder.parent / "broken.safetensors").write_bytes(b"\x05")
    assert weights_on_disk(tiny_pipeline_folder.parent / "broken.safetensors") == (1, 0)


def test_the_hub_cache_of_this_machine_counts_as_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = RunConfig.from_dict(preset_settings("quick"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert {model.where for model in models_needed(config)} == {"hub"}
    cached = tmp_path / "models--microsoft--resnet-50"
    snapshot = cached / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("abc")
    (snapshot / "config.json").write_text("{}")
    where = {model.name: model.where for model in models_needed(config)}
    assert where["microsoft/resnet-50"] == "hub"  # a config alone is what a check leaves
    (snapshot / "model.safetensors").write_bytes(b"")
    where = {model.name: model.where for model in models_needed(config)}
    assert where["microsoft/resnet-50"] == "on this machine"


def test_training_memory_grows_with_the_square_of_the_side() -> None:
    config = RunConfig.from_dict(preset_settings("paper-cub"))
    plan = make_plan(config, gpu="H200")
    train = {stage.name: stage for stage in plan.stages}["train"]
    expected = 64 * 448**2 * BACKBONES["microsoft/resnet-50"].kept_bytes
    assert train.memory_bytes == pytest.approx(expected, rel=0.2)


def test_a_plan_of_a_preset_imports_no_torch_and_is_json() -> None:
    code = (
        "import sys, json\n"
        "from gendataagent.config import RunConfig\n"
        "from gendataagent.config.presets import preset_settings\n"
        "from gendataagent.runs.planning import make_plan\n"
        "plan = make_plan(RunConfig.from_dict(preset_settings('paper-pets')), gpu='L4')\n"
        "print(json.dumps([plan.to_json(), sorted(sys.modules)]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    plan, modules = json.loads(done.stdout)
    assert not {"torch", "diffusers", "transformers"} & set(modules)
    assert plan["estimate"] is True
    assert plan["real"]["train"] + plan["real"]["validation"] == 3_680
    assert plan["counts"]["rounds"] == 20
    assert plan["models"][2]["gated"] is True


def guided(**generation: Any) -> RunConfig:
    return settings(
        data={"path": "", "layout": "folder"},
        training={"epochs": 8},
        agent={"rounds": 4, "first_round_epoch": 0, "rounds_within": 0.5},
        selection={"share": 0.5},
        prompting={"rewrites": 1},
        generation={"feedback": "entropy", "feedback_images": 20, **generation},
    )


def test_feedback_counts_the_search_and_every_gradient() -> None:
    config = guided()
    real = count_real(config, images=200)
    counts = count_work(config, real)
    assert counts.rounds == 4
    assert counts.feedback_rounds == 3  # the first is before any training
    # without feedback and at up to five scales, one of which is that of the round
    assert counts.feedback_images == 3 * 20 * 5
    steered = 3 * (counts.images_per_round + 20 * 4)
    assert counts.feedback_steps == steered * counts.steps_per_image

    fixed = count_work(guided(feedback_scale=0.1), real)
    assert fixed.feedback_images == 3 * 20
    assert fixed.feedback_steps == 3 * counts.images_per_round * counts.steps_per_image
    later = count_work(guided(feedback_first_round=2, feedback_images=1000), real)
    assert later.feedback_rounds == 2
    assert later.feedback_images == 2 * counts.images_per_round * 5  # no more than there are
    assert count_work(guided(feedback="random", feedback_scale=0.1), real).feedback_steps == 0
    off = count_work(guided(feedback="none"), real)
    assert (off.feedback_rounds, off.feedback_images, off.feedback_steps) == (0, 0, 0)
    assert off.scored_images < counts.scored_images


def test_only_steered_steps_take_a_gradient() -> None:
    real = count_real(guided(), images=200)
    all_steps = count_work(guided(), real)
    assert all_steps.steps_per_image > 4
    last_half = count_work(guided(feedback_steps=[0.5, 1.0]), real)
    share = math.floor(all_steps.steps_per_image / 2) / all_steps.steps_per_image
    assert last_half.feedback_steps == pytest.approx(share * all_steps.feedback_steps)


def test_the_cost_of_feedback_is_that_of_decoder_and_guide() -> None:
    def stage(**generation: Any) -> StageCost:
        plan = make_plan(guided(**generation), images=200, gpu="L4")
        (found,) = [one for one in plan.stages if one.name == "feedback"]
        return found

    counts = count_work(guided(), count_real(guided(), images=200))
    images = counts.feedback_images * image_flops(TINY_SD, 32, guided(), counts.steps_per_image)
    guide = BACKBONES["tiny-resnet"]
    px = guided().classifier.size_px or guide.size_px
    each = 2 * at(TINY_SD.decode_flops, 32**2) + 2 * 3 * guide.flops * (px / guide.size_px) ** 2
    whole = stage()
    assert whole.flops == pytest.approx(images + counts.feedback_steps * each)
    assert whole.amount.startswith(f"up to {counts.feedback_images:,} images")
    one_view, half = stage(feedback_views=1), stage(feedback_decoder="half")
    assert (whole.flops or 0) > (one_view.flops or 0)
    assert (whole.memory_bytes or 0) > (half.memory_bytes or 0)
    large = make_plan(RunConfig.from_dict(preset_settings("paper-pets")), gpu="RTX 4090")
    assert "feedback" not in [one.name for one in large.stages]


def test_decoders_keep_more_for_a_backward_pass_than_a_forward_pass_needs() -> None:
    for generator in GENERATORS.values():
        assert generator.decode_kept_bytes > generator.decode_bytes


def refusals(config: RunConfig, folder: Path) -> tuple[str, str]:
    """Return what a plan and what a run say of settings that both refuse."""
    said = []
    for attempt in (lambda: make_plan(config), lambda: run(config, folder)):
        with pytest.raises(GenDataAgentError) as caught:
            attempt()
        said.append(str(caught.value))
    assert not folder.exists()
    return said[0], said[1]


@pytest.mark.integration
def test_a_plan_refuses_what_a_run_refuses(
    small_config: RunConfig, tiny_pipeline_folder: Path, photo_folder: Path, tmp_path: Path
) -> None:
    lacking = Path(shutil.copytree(tiny_pipeline_folder, tmp_path / "lacking"))
    next((lacking / "unet").glob("*.safetensors")).unlink()
    one_class = tmp_path / "one"
    for split in ("train", "test"):
        shutil.copytree(photo_folder / split / "ship", one_class / split / "ship")
    missing = str(tmp_path / "missing")
    generation, prompting = small_config.generation, small_config.prompting
    for changes, words in (
        ({"generation": replace(generation, generator=missing)}, "generation.generator: there is"),
        ({"generation": replace(generation, generator=str(lacking))}, "unet"),
        ({"generation": replace(generation, lora=missing)}, "there is no file or folder"),
        ({"generation": replace(generation, few_step_lora=f"{missing}-lcm")}, "there is no"),
        ({"prompting": replace(prompting, captioner=missing)}, "prompting.captioner: there is no"),
        (
            {
                "prompting": replace(
                    prompting, rewriter="endpoint", endpoint_url="ftp://x", endpoint_model="m"
                )
            },
            "prompting.endpoint_url must be the base address",
        ),
        ({"classifier": replace(small_config.classifier, model=missing)}, "classifier.model"),
        ({"selection": replace(small_config.selection, by="hardest")}, "selection.by must be"),
        ({"data": replace(small_config.data, path=str(one_class))}, "at least two classes"),
    ):
        planned, ran = refusals(replace(small_config, **changes), tmp_path / "run")
        assert words in planned
        assert planned == ran


def test_a_plan_says_what_overlap_saves() -> None:
    overlap = {"overlap": True, "rounds": 2, "first_round_epoch": 0}
    training = {"epochs": 12}
    alone = settings(agent=overlap, training=training)
    (note,) = (n for n in make_plan(alone, gpu="RTX 4090", images=1000).notes if "overlap" in n)
    assert "nothing is gained; set generation.workers" in note
    helped = settings(agent=overlap, training=training, generation={"workers": 1})
    (note,) = (n for n in make_plan(helped, gpu="RTX 4090", images=1000).notes if "overlap" in n)
    assert "share the only GPU" in note
    plan = make_plan(helped, gpu="RTX 4090", images=1000, devices=2)
    (note,) = (n for n in plan.notes if "overlap" in n)
    seconds = {stage.name: stage.seconds or 0.0 for stage in plan.stages}
    saved = min(seconds["render"], seconds["train"] * 8 / 12)
    assert f"At most {saved:.0f} s of the total above are saved" in note
    plain = make_plan(settings(training=training, agent={"rounds": 2}), gpu="RTX 4090", images=1000)
    assert not any("overlap" in note for note in plain.notes)


def test_an_image_text_filter_is_a_model_of_the_plan_and_costs_a_pass_an_image(
    tmp_path: Path,
) -> None:
    folder = save_tiny_clip(tmp_path / "clip")
    plain, filtered = (
        settings(filter={"by": "none"}),
        settings(filter={"by": "text-agreement", "text_model": str(folder)}),
    )
    assert "filter.text_model" not in {model.setting for model in models_needed(plain)}
    plans = [make_plan(config) for config in (plain, filtered)]
    stages = [next(s for s in p.stages if s.name == "score, filter") for p in plans]
    (model,) = [m for m in plans[1].models if m.setting == "filter.text_model"]
    assert model.parameters
    assert f"{plans[1].counts.images:,} through" in stages[1].amount
    flops = [stage.flops for stage in stages]
    assert flops[0] is not None
    assert flops[1] == pytest.approx(flops[0] + 100 * model.parameters * plans[1].counts.images)


def test_steps_of_several_strengths_are_their_mean_and_from_text_all_of_them() -> None:
    def steps(**generation: Any) -> int:
        chosen = settings(generation={"num_inference_steps": 20, **generation})
        return count_work(chosen, count_real(chosen, images=100)).steps_per_image

    assert steps(strength=0.5) == 10
    assert steps(strengths=[0.25, 0.5, 0.75]) == 10
    assert steps(strength=0.5, start="noise") == 20


def test_images_that_are_found_cost_a_pass_of_the_encoder_and_no_generator(tmp_path: Path) -> None:
    clip, own = save_tiny_clip(tmp_path / "clip"), tmp_path / "own"
    own.mkdir()
    config = settings(
        generation={"generator": "retrieval", "retrieval_folder": str(own),
                    "retrieval_model": str(clip)}
    )  # fmt: skip
    with pytest.raises(DataError, match=r"generation\.retrieval_folder: there is no image in"):
        make_plan(config)
    Image.new("RGB", (8, 8)).save(own / "a.png")
    plan = make_plan(config)
    (render,) = [stage for stage in plan.stages if stage.name == "render"]
    assert render.amount == f"{plan.counts.images:,} images found"
    named = {model.setting: model for model in plan.models}
    assert named["generation.generator"].download_bytes == 0
    assert render.flops == pytest.approx(
        100 * (named["generation.retrieval_model"].parameters or 0) * plan.counts.images
    )


def test_a_controlnet_counts_as_a_download_in_memory_and_in_each_step(tmp_path: Path) -> None:
    def planned(**generation: Any) -> Plan:
        chosen = {"generator": "stable-diffusion-v1-5/stable-diffusion-v1-5",
                  "num_inference_steps": 20, "guidance_scale": 7.5}  # fmt: skip
        return make_plan(settings(generation={**chosen, **generation}))

    def render(plan: Plan) -> StageCost:
        (stage,) = [stage for stage in plan.stages if stage.name == "render"]
        return stage

    plain, edges = planned(), planned(condition="edges")
    named = {model.setting: model for model in edges.models}
    controlnet = named["generation.controlnet"]
    assert controlnet.download_bytes == 4 * 361_279_120
    assert "generation.controlnet" not in {model.setting for model in plain.models}
    before, after = render(plain), render(edges)
    assert before.flops is not None
    assert after.flops is not None
    assert before.memory_bytes is not None
    passes = 2 * plain.counts.steps_per_image * plain.counts.images
    one = at(CONTROLNETS[controlnet.name].flops, 64**2)
    assert after.flops - before.flops == pytest.approx(passes * one)
    assert after.memory_bytes == before.memory_bytes + 4 * 361_279_120  # float32 on the CPU
    own = save_tiny_controlnet(tmp_path / "own")
    stage = render(planned(condition="edges", controlnet=str(own)))
    assert (stage.flops, stage.note) == (None, f"{own}: not known here")


def test_a_plan_refuses_a_controlnet_for_another_model_without_asking_the_hub(
    tmp_path: Path, tiny_pipeline_folder: Path
) -> None:
    for name in ("lllyasviel/control_v11p_sd15_canny", "diffusers/controlnet-canny-sdxl-1.0"):
        with pytest.raises(ConfigError, match="is for another model than the generator tiny-sd"):
            make_plan(settings(generation={"condition": "edges", "controlnet": name}))
    own = {"generator": str(tiny_pipeline_folder), "condition": "edges"}
    control = save_tiny_controlnet(tmp_path / "own")
    make_plan(settings(generation={**own, "controlnet": str(control)}))
    other = save_tiny_controlnet(tmp_path / "xl", xl=True)
    with pytest.raises(ModelError, match="does not fit the generator"):
        make_plan(settings(generation={**own, "controlnet": str(other)}))
