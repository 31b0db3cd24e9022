"""From counts to FLOPs, hours, memory and disk. All of it is an estimate, and says what from.

hours = FLOPs / (peak rate x the share of it that is reached); reading words off a language model
waits for its weights instead: bytes of weights x words / memory bandwidth. What is not known of a
model is left unknown (None), never guessed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gendataagent.config import AUTO, RunConfig
from gendataagent.core.memory import scoring_batch
from gendataagent.runs.planning.counts import Counts
from gendataagent.runs.planning.downloads import BUNDLED, SERVER, ModelNeeded
from gendataagent.runs.planning.facts import (
    BACKBONES,
    BANDWIDTH_UTILISATION,
    CAPTIONERS,
    GENERATORS,
    GIB,
    SD15,
    SDXL,
    TINY_SD,
    Architecture,
    Backbone,
    Device,
    at,
)

# Assumed, and printed with the plan
CAPTION_WORDS = 15  # tokens of a caption, of prompting.caption_tokens allowed
REWRITE_PROMPT_TOKENS = 300
REWRITE_TOKENS = 25  # a reply's tokens for each rewrite
PNG_BYTES_PER_PX = {"small": 2.2, "large": 1.7}  # bundled CIFAR-10 measured; photographs assumed
SMALL_PX = 64
RUNTIME_BYTES = 1.5 * GIB  # CUDA context, kernels, workspaces, fragmentation


@dataclass(frozen=True, slots=True, kw_only=True)
class StageCost:
    """What one part of a run costs.

    Args:
        flops: None = not known.
        seconds: on the planned device; None = not known.
        memory_bytes: the most at once on the device; None = not known.
        note: what a reader should know about it.
    """

    name: str
    amount: str
    flops: float | None
    seconds: float | None
    memory_bytes: float | None
    note: str = ""


def architecture_of(name: str) -> Architecture | None:
    """Return the facts of a generator by its name, or by the UNet config of its folder."""
    if name in GENERATORS:
        return GENERATORS[name]
    try:
        path = Path(name).expanduser() / "unet" / "config.json"
        unet = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    traits = (unet.get("block_out_channels"), unet.get("cross_attention_dim"))
    known = {
        ((320, 640, 1280, 1280), 768): SD15,
        ((320, 640, 1280), 2048): SDXL,
        ((128, 192), 128): TINY_SD,
    }
    return known.get((tuple(traits[0] or ()), traits[1]))


def image_flops(architecture: Architecture, size_px: int, config: RunConfig, steps: int) -> float:
    """Return the FLOPs of one image: encoded, `steps` denoising steps with guidance, decoded."""
    guided = 2 if config.generation.guidance_scale > 1 else 1
    latent = (size_px // architecture.shrink) ** 2
    return (
        at(architecture.encode_flops, size_px**2)
        + guided * steps * at(architecture.unet_flops, latent)
        + at(architecture.decode_flops, size_px**2)
    )


def stage_costs(
    config: RunConfig,
    counts: Counts,
    models: Sequence[ModelNeeded],
    device: Device,
) -> list[StageCost]:
    """Return what each part of a run costs on a device, in the order they happen."""
    by_setting = {model.setting: model for model in models}
    stages = []
    if config.agent.enabled:
        stages.append(_caption(config, counts, by_setting["prompting.captioner"], device))
        if config.adaptation.enabled:
            stages.append(_adapt(config, counts, device))
        stages.append(_rewrite(config, counts, by_setting["prompting.rewriter"], device))
        stages.append(_render(config, counts, device))
    stages.append(_score_and_filter(config, counts, device))
    stages.append(_train(config, counts, device))
    return stages


def _seconds(flops: float, device: Device) -> float:
    return flops / (device.flops_per_s * device.utilisation)


def _weight_bytes(parameters: float, device: Device) -> float:
    return parameters * (2 if device.is_gpu else 4)


def _reading_words(parameters: float, words: float, device: Device) -> float:
    """Return the seconds to read `words` off a language model, one after the other."""
    reached = device.bytes_per_s * (BANDWIDTH_UTILISATION if device.is_gpu else 1)
    return words * _weight_bytes(parameters, device) / reached


def _caption(config: RunConfig, counts: Counts, model: ModelNeeded, device: Device) -> StageCost:
    least, most = counts.captions_least, counts.captions_most
    amount = f"{most:,} captions" if least == most else f"{least:,} to {most:,} captions"
    if model.where == BUNDLED:
        return StageCost(name="caption", amount=amount, flops=0.0, seconds=0.0, memory_bytes=0.0,
                         note=f"{model.name}: no model")  # fmt: skip
    facts = CAPTIONERS.get(model.name)
    if facts is None:
        memory = _weight_bytes(model.parameters, device) if model.parameters else None
        note = f"{model.name}: FLOPs not known here"
        return StageCost(name="caption", amount=amount, flops=None, seconds=None,
                         memory_bytes=memory, note=note)  # fmt: skip
    tokens = facts.prompt_tokens + CAPTION_WORDS
    flops = most * (facts.vision_flops + 2 * facts.language_parameters * tokens)
    batches = math.ceil(most / config.prompting.batch_size)
    words = _reading_words(facts.language_parameters, batches * CAPTION_WORDS, device)
    return StageCost(
        name="caption",
        amount=amount,
        flops=flops,
        seconds=_seconds(flops, device) + words,
        memory_bytes=_weight_bytes(facts.parameters, device) + RUNTIME_BYTES,
        note="costs nothing where a cache has them",
    )


def _adapt(config: RunConfig, counts: Counts, device: Device) -> StageCost:
    amount = f"{counts.adaptation_steps:,} steps, {counts.adaptation_images:,} images"
    architecture = architecture_of(config.generation.generator)
    if architecture is None:
        return _unknown("adapt", amount, config.generation.generator)
    settings = config.adaptation
    size_px = settings.size_px or config.generation.size_px or architecture.size_px
    latent = (size_px // architecture.shrink) ** 2
    checkpointed = settings.gradient_checkpointing == "on" or (
        settings.gradient_checkpointing == AUTO
        and device.is_gpu
        and device.memory_bytes <= 16.5 * GIB
    )
    # forward, backward through frozen weights to the adapters, and forward again if checkpointed
    passes = 3 if checkpointed else 2
    each = passes * at(architecture.unet_flops, latent)
    encoded = counts.adaptation_images if settings.random_crop else counts.adaptation_images / max(
        1, settings.epochs
    ) * (2 if settings.flip else 1)  # fmt: skip
    flops = counts.adaptation_images * each + encoded * at(architecture.encode_flops, size_px**2)
    drawn = image_flops(architecture, size_px, config, config.generation.num_inference_steps)
    flops += counts.drawn_for_adaptation * drawn
    kept = architecture.checkpointed_bytes if checkpointed else architecture.kept_bytes
    width = 1 if device.is_gpu else 2
    return StageCost(
        name="adapt",
        amount=amount,
        flops=flops,
        seconds=_seconds(flops, device),
        memory_bytes=(
            _weight_bytes(architecture.parameters, device)
            + width * kept * latent * settings.batch_size
            + RUNTIME_BYTES
        ),
        note="with gradient checkpointing" if checkpointed else "without gradient checkpointing",
    )


def _rewrite(config: RunConfig, counts: Counts, model: ModelNeeded, device: Device) -> StageCost:
    amount = f"{counts.rewrites:,} rewrites"
    if model.where in (BUNDLED, SERVER):
        note = f"{model.name}: no model" if model.where == BUNDLED else "on the server"
        return StageCost(name="rewrite", amount=amount, flops=0.0, seconds=0.0, memory_bytes=0.0,
                         note=note)  # fmt: skip
    if not model.parameters:
        return _unknown("rewrite", amount, model.name)
    asked = counts.rounds * counts.selected_per_round
    said = config.prompting.rewrites * REWRITE_TOKENS
    flops = 2.0 * model.parameters * asked * (REWRITE_PROMPT_TOKENS + said)
    prefill = 2.0 * model.parameters * asked * REWRITE_PROMPT_TOKENS
    batches = math.ceil(asked / config.prompting.batch_size)
    return StageCost(
        name="rewrite",
        amount=amount,
        flops=flops,
        seconds=_seconds(prefill, device)
        + _reading_words(model.parameters, batches * said, device),
        memory_bytes=_weight_bytes(model.parameters, device) * 1.15 + RUNTIME_BYTES,
        note="if every first reply passes the guard",
    )


def _render(config: RunConfig, counts: Counts, device: Device) -> StageCost:
    amount = f"{counts.images:,} images, {counts.steps_per_image} steps each"
    architecture = architecture_of(config.generation.generator)
    if architecture is None:
        return _unknown("render", amount, config.generation.generator)
    size_px = config.generation.size_px or architecture.size_px
    flops = counts.images * image_flops(architecture, size_px, config, counts.steps_per_image)
    guided = 2 if config.generation.guidance_scale > 1 else 1
    latent = (size_px // architecture.shrink) ** 2
    width = 1 if device.is_gpu else 2
    busiest = max(guided * architecture.unet_bytes * latent, architecture.decode_bytes * size_px**2)
    return StageCost(
        name="render",
        amount=amount,
        flops=flops,
        seconds=_seconds(flops, device),
        memory_bytes=(
            _weight_bytes(architecture.parameters, device)
            + width * config.generation.batch_size * busiest
            + RUNTIME_BYTES
        ),
        note=f"{config.generation.batch_size} drawn together, halved where the memory runs out",
    )


def _score_and_filter(config: RunConfig, counts: Counts, device: Device) -> StageCost:
    """Cost of scoring the real images and of the filter's input gradients, in float32."""
    amount = f"{counts.scored_images:,} scored, {counts.vog_passes:,} input gradients"
    backbone = BACKBONES.get(config.classifier.model)
    if backbone is None:
        return _unknown("score, filter", amount, config.classifier.model)
    size_px = config.classifier.size_px or backbone.size_px
    # an input gradient costs as much as two forward passes
    flops = _forward(backbone, size_px) * (counts.scored_images + 2 * counts.vog_passes)
    at_once = min(scoring_batch(size_px), counts.images_per_round) if counts.vog_passes else 0
    activations = at_once * backbone.vog_bytes * size_px**2
    return StageCost(
        name="score, filter",
        amount=amount,
        flops=flops,
        seconds=_seconds(flops, device),
        memory_bytes=activations + 12 * backbone.parameters + RUNTIME_BYTES,
        note=f"{scoring_batch(size_px)} images at once, float32",
    )


def _train(config: RunConfig, counts: Counts, device: Device) -> StageCost:
    amount = f"{counts.optimizer_steps:,} steps, {counts.training_images:,} images"
    backbone = BACKBONES.get(config.classifier.model)
    if backbone is None:
        return _unknown("train", amount, config.classifier.model)
    size_px = config.classifier.size_px or backbone.size_px
    flops = 3 * _forward(backbone, size_px) * counts.training_images
    return StageCost(
        name="train",
        amount=amount,
        flops=flops,
        seconds=_seconds(flops, device),
        memory_bytes=training_bytes(config, backbone, size_px, device) + RUNTIME_BYTES,
        note="also without the agent, to compare" if counts.baseline else "",
    )


def _forward(backbone: Backbone, size_px: int) -> float:
    return backbone.flops * (size_px / backbone.size_px) ** 2


def training_bytes(config: RunConfig, backbone: Backbone, size_px: int, device: Device) -> float:
    """Return activations, weights, gradients and momentum of the classifier's training."""
    half = device.is_gpu and config.training.mixed_precision != "no"
    activations = (1 if half else 2) * config.training.batch_size * backbone.kept_bytes * size_px**2
    return activations + 12 * backbone.parameters


def _unknown(name: str, amount: str, model: str) -> StageCost:
    return StageCost(name=name, amount=amount, flops=None, seconds=None, memory_bytes=None,
                     note=f"{model}: not known here")  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """Bytes a run leaves or downloads; None = not known."""

    images: float | None
    checkpoints: float | None
    downloads: float | None


def disk(config: RunConfig, counts: Counts, models: Sequence[ModelNeeded]) -> Disk:
    """Return what a run takes on the disk."""
    architecture = architecture_of(config.generation.generator)
    size_px = config.generation.size_px or (architecture.size_px if architecture else 0)
    per_px = PNG_BYTES_PER_PX["small" if size_px <= SMALL_PX else "large"]
    backbone = BACKBONES.get(config.classifier.model)
    weights = 4 * backbone.parameters if backbone else None
    # two checkpoints with momentum, the VoG snapshots, the final weights
    states = 5 + len(config.filter.snapshot_at)
    downloads = [model.download_bytes for model in models]
    return Disk(
        images=counts.images * size_px**2 * per_px if size_px or not counts.images else None,
        checkpoints=states * weights if weights else None,
        downloads=None if None in downloads else float(sum(d or 0 for d in downloads)),
    )


def what_to_change(config: RunConfig, stages: Sequence[StageCost], device: Device) -> Iterator[str]:
    """Yield a sentence for each stage that does not fit into the device's memory."""
    advice = {
        "caption": "name a smaller captioner, such as Salesforce/blip-image-captioning-base",
        "rewrite": (
            "name a smaller language model, such as Qwen/Qwen2.5-1.5B-Instruct, or run it behind "
            "prompting.rewriter=endpoint"
        ),
        "score, filter": (
            "set filter.by=knn, which needs no gradients, or lower classifier.size_px"
        ),
        "render": "nothing need be changed: fewer are drawn together where the memory runs out",
        "adapt": (
            "set adaptation.gradient_checkpointing=on and lower adaptation.batch_size"
            if config.adaptation.gradient_checkpointing != "on"
            else "lower adaptation.batch_size"
        ),
    }
    for stage in stages:
        if stage.memory_bytes is None or stage.memory_bytes <= device.memory_bytes:
            continue
        needs = f"{stage.name} needs about {stage.memory_bytes / GIB:.0f} GiB of the "
        needs += f"{device.memory_bytes / GIB:.0f} GiB of {device.name}"
        yield f"{needs}: {advice.get(stage.name) or _smaller_batch(config, stage, device)}."


def _smaller_batch(config: RunConfig, stage: StageCost, device: Device) -> str:
    backbone = BACKBONES[config.classifier.model]
    size_px = config.classifier.size_px or backbone.size_px
    batch = config.training.batch_size
    while batch > 2:
        batch //= 2
        smaller = replace(config, training=replace(config.training, batch_size=batch))
        if training_bytes(smaller, backbone, size_px, device) + RUNTIME_BYTES < device.memory_bytes:
            break
    rate = config.training.learning_rate * batch / config.training.batch_size
    return f"try training.batch_size={batch} with training.learning_rate={rate:g}"
