"""From counts to FLOPs, hours, memory and disk: estimates only.

hours = FLOPs / (peak rate x the share of it that is reached). Decoding a language model is limited
by reading its weights instead: bytes of weights x tokens / memory bandwidth. What is not known of a
model stays unknown (None); nothing is guessed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gendataagent.config import AUTO, RunConfig
from gendataagent.core.files import expand, parse_others_json, read_bytes
from gendataagent.core.memory import scoring_batch
from gendataagent.core.records import WITH_EDGES
from gendataagent.generation.feedback import RANDOM
from gendataagent.runs.planning.counts import Counts
from gendataagent.runs.planning.downloads import BUNDLED, SERVER, ModelNeeded
from gendataagent.runs.planning.facts import (
    BACKBONES,
    BANDWIDTH_UTILISATION,
    CAPTIONERS,
    CONTROLNETS,
    DECODERS,
    GENERATORS,
    GIB,
    ControlNetFacts,
    DecoderFacts,
    Device,
    GeneratorFacts,
    at,
)

# Assumed, and printed with the plan
CAPTION_TOKENS = 15  # of prompting.caption_tokens allowed
REWRITE_PROMPT_TOKENS = 300
TOKENS_OF_AN_IMAGE = 50  # of a ViT-B/32, for image-text encoders
REWRITE_TOKENS = 25  # a reply's tokens for each rewrite
PNG_BYTES_PER_PX = {"small": 2.2, "large": 1.7}  # bundled CIFAR-10 measured; photographs assumed
SMALL_PX = 64
RUNTIME_BYTES = 1.5 * GIB  # CUDA context, kernels, workspaces, fragmentation
SMALL_GPU_BYTES = 16 * GIB  # as in adaptation.trainer, which imports torch


@dataclass(frozen=True, slots=True)
class StageCost:
    """What one stage of a run costs.

    Args:
        amount: what is done how often, in words.
        flops: None = not known.
        seconds: on the planned device; None = not known.
        memory_bytes: peak on the device; None = not known.
        note: what a reader should know about it.
    """

    name: str
    amount: str
    flops: float | None = None
    seconds: float | None = None
    memory_bytes: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """Bytes that a run writes or downloads; None = not known."""

    images: float | None
    checkpoints: float | None
    downloads: float | None


def generator_facts(name: str) -> GeneratorFacts | None:
    """Return the facts of a generator by its name, or by the UNet config of its folder."""
    if name in GENERATORS:
        return GENERATORS[name]
    return _alike(GENERATORS, expand(name) / "unet")


def controlnet_facts(name: str) -> ControlNetFacts | None:
    """Return the facts of a ControlNet by its name, or by the config of its folder."""
    return CONTROLNETS.get(name) or _alike(CONTROLNETS, expand(name))


def _alike(facts: Mapping[str, Any], folder: Path) -> Any | None:
    """Return the facts of the same architecture as the config in a folder."""
    try:
        config = parse_others_json(read_bytes(folder / "config.json"))
    except (OSError, ValueError):
        return None
    if not isinstance(config, dict):
        return None
    traits = (config.get("block_out_channels"), config.get("cross_attention_dim"))
    fits = (f for f in facts.values() if (f.block_out_channels, f.cross_attention_dim) == traits)
    return next(fits, None)


def image_flops(generator: GeneratorFacts, size_px: int, config: RunConfig, steps: int) -> float:
    """Return the FLOPs of one image: encoding, `steps` denoising steps with guidance, decoding.

    A ControlNet that is not known counts none.
    """
    denoising = at(generator.unet_flops, _latent(generator, size_px))
    if config.generation.condition == WITH_EDGES:
        controlnet = controlnet_facts(config.generation.controlnet)
        denoising += at(controlnet.flops, _latent(generator, size_px)) if controlnet else 0.0
    return (
        at(generator.encode_flops, size_px**2)
        + _batch_of_guidance(config) * steps * denoising
        + at(_decoder(generator, config).decode_flops, size_px**2)
    )


def _decoder(generator: GeneratorFacts, config: RunConfig) -> GeneratorFacts | DecoderFacts:
    """Return the facts of what decodes; of an unknown tiny decoder, those of the generator."""
    return DECODERS.get(config.generation.decoder, generator)


def _batch_of_guidance(config: RunConfig) -> int:
    """Return the UNet passes of one step: classifier-free guidance takes two."""
    return 2 if config.generation.guidance > 1 else 1


def _latent(generator: GeneratorFacts, size_px: int) -> int:
    return (size_px // generator.shrink) ** 2


class Costs:
    """The costs of one run on one device."""

    def __init__(
        self, config: RunConfig, counts: Counts, models: Sequence[ModelNeeded], device: Device
    ) -> None:
        self._config, self._counts, self._device = config, counts, device
        self._models = {model.setting: model for model in models}
        self._generator = generator_facts(config.generation.generator)
        self._backbone = BACKBONES.get(config.classifier.model)
        own_px = self._backbone.size_px if self._backbone else 0
        self._classifier_px = config.classifier.size_px or own_px
        own_px = self._generator.size_px if self._generator else 0
        self._generator_px = config.generation.size_px or own_px
        self._weight_bytes = 2 if device.is_gpu else 4
        self._half = 1 if device.is_gpu else 2  # facts count activations in half precision

    @property
    def image_px(self) -> int:
        """Side of a generated image; 0 = not known."""
        return self._generator_px

    @property
    def _unknown_controlnet(self) -> str | None:
        """Name of a ControlNet whose FLOPs are not known; None where there is none such."""
        name = self._config.generation.controlnet
        used = "generation.controlnet" in self._models
        return name if used and controlnet_facts(name) is None else None

    def stages(self) -> list[StageCost]:
        """Return the cost of each stage, in the order of a run."""
        stages = [self._score_and_filter(), self._train()]
        if not self._config.agent.enabled:
            return stages
        adapt = [self._adapt()] if self._config.adaptation.enabled else []
        feedback = [self._feedback()] if self._counts.feedback_rounds else []
        return [self._caption(), *adapt, self._rewrite(), *feedback, self._render(), *stages]

    def _seconds(self, flops: float) -> float:
        return flops / (self._device.flops_per_s * self._device.utilisation)

    def _decoding_s(self, parameters: float, tokens: float) -> float:
        """Return the seconds to decode `tokens` with a language model, one after the other."""
        reached = BANDWIDTH_UTILISATION if self._device.is_gpu else 1
        return tokens * parameters * self._weight_bytes / (self._device.bytes_per_s * reached)

    def _stage(
        self,
        name: str,
        amount: str,
        flops: float,
        memory_bytes: float,
        note: str,
        *,
        decoding_s: float = 0.0,
    ) -> StageCost:
        """Return a stage; `memory_bytes` are of weights and activations."""
        seconds = self._seconds(flops) + decoding_s
        return StageCost(name, amount, flops, seconds, memory_bytes + RUNTIME_BYTES, note)

    def _caption(self) -> StageCost:
        least, most = self._counts.captions_least, self._counts.captions_most
        amount = f"{most:,} captions" if least == most else f"{least:,} to {most:,} captions"
        model = self._models["prompting.captioner"]
        if model.where == BUNDLED:
            return StageCost("caption", amount, 0.0, 0.0, 0.0, f"{model.name}: no model")
        facts = CAPTIONERS.get(model.name)
        if facts is None:
            memory = model.parameters * self._weight_bytes if model.parameters else None
            note = f"{model.name}: FLOPs not known here"
            return StageCost("caption", amount, memory_bytes=memory, note=note)
        tokens = facts.prompt_tokens + CAPTION_TOKENS
        flops = most * (facts.vision_flops + 2 * facts.language_parameters * tokens)
        decoded = CAPTION_TOKENS * math.ceil(most / self._config.prompting.batch_size)
        decoding_s = self._decoding_s(facts.language_parameters, decoded)
        memory_bytes = facts.parameters * self._weight_bytes
        note = "free where cached"
        return self._stage("caption", amount, flops, memory_bytes, note, decoding_s=decoding_s)

    def _adapt(self) -> StageCost:
        counts, settings, facts = self._counts, self._config.adaptation, self._generator
        amount = f"{counts.adaptation_steps:,} steps, {counts.adaptation_images:,} images"
        if facts is None:
            return self._unknown("adapt", amount, self._config.generation.generator)
        size_px = settings.size_px or self._generator_px
        checkpointed = settings.gradient_checkpointing == "on" or (
            settings.gradient_checkpointing == AUTO
            and self._device.is_gpu
            and self._device.memory_bytes <= SMALL_GPU_BYTES
        )
        # forward, backward through frozen weights to what is trained, and forward again if so; the
        # text encoders, through which words are learned, are small beside the UNet
        passes = 3 if checkpointed else 2
        encoded = float(counts.adaptation_images)
        if not settings.random_crop:  # then latents are cached, of all images, captioned ones
            encoded = counts.captions_most * (2.0 if settings.flip else 1.0)
        generation = replace(self._config.generation.without_few_steps(), condition="none")
        plain = replace(self._config, generation=generation)
        steps = plain.generation.steps
        flops = (
            counts.adaptation_images * passes * at(facts.unet_flops, _latent(facts, size_px))
            + encoded * at(facts.encode_flops, size_px**2)
            + counts.drawn_for_adaptation * image_flops(facts, size_px, plain, steps)
        )
        kept = facts.checkpointed_bytes if checkpointed else facts.kept_bytes
        activations = self._half * kept * _latent(facts, size_px) * settings.batch_size
        memory_bytes = facts.parameters * self._weight_bytes + activations
        kind = f"{settings.kind}, one a class" if settings.per_class else settings.kind
        note = f"{kind}; {'with' if checkpointed else 'without'} gradient checkpointing"
        return self._stage("adapt", amount, flops, memory_bytes, note)

    def _rewrite(self) -> StageCost:
        counts, model = self._counts, self._models["prompting.rewriter"]
        amount = f"{counts.rewrites:,} rewrites"
        if model.where in (BUNDLED, SERVER):
            note = f"{model.name}: no model" if model.where == BUNDLED else "on the server"
            return StageCost("rewrite", amount, 0.0, 0.0, 0.0, note)
        if not model.parameters:
            return self._unknown("rewrite", amount, model.name)
        asked = counts.rounds * counts.selected_per_round
        replied = self._config.prompting.rewrites * REWRITE_TOKENS
        prefill = 2.0 * model.parameters * asked * REWRITE_PROMPT_TOKENS
        decoded = replied * math.ceil(asked / self._config.prompting.batch_size)
        return StageCost(
            "rewrite",
            amount,
            prefill + 2.0 * model.parameters * asked * replied,
            self._seconds(prefill) + self._decoding_s(model.parameters, decoded),
            model.parameters * self._weight_bytes * 1.15 + RUNTIME_BYTES,
            "if every first reply is valid",
        )

    def _render(self) -> StageCost:
        counts, facts, size_px = self._counts, self._generator, self._generator_px
        if (encoder := self._models.get("generation.retrieval_model")) is not None:
            flops = 2.0 * (encoder.parameters or 0) * TOKENS_OF_AN_IMAGE * counts.images
            return self._stage(
                "render", f"{counts.images:,} images found", flops, 4.0 * (encoder.parameters or 0),
                f"and each image of the folder once through {encoder.name}",
            )  # fmt: skip
        amount = f"{counts.images:,} images, {counts.steps_per_image} steps each"
        if facts is None:
            return self._unknown("render", amount, self._config.generation.generator)
        flops = counts.images * image_flops(facts, size_px, self._config, counts.steps_per_image)
        batch = int(self._config.generation.batch_size)
        denoising = _batch_of_guidance(self._config) * facts.unet_bytes * _latent(facts, size_px)
        activations = self._half * batch * max(denoising, facts.decode_bytes * size_px**2)
        memory_bytes = facts.parameters * self._weight_bytes + activations
        note = f"batches of {batch}, halved when memory runs out"
        if self._unknown_controlnet is not None:
            return self._unknown("render", amount, self._unknown_controlnet)
        if (controlnet := self._models.get("generation.controlnet")) is not None:
            memory_bytes += (controlnet.parameters or 0) * self._weight_bytes
            note = f"with the ControlNet in each step; {note}"
        if self._config.generation.decoder not in ("vae", *DECODERS):
            note += "; decoding counted with the generator's autoencoder, a tiny one costs less"
        return self._stage("render", amount, flops, memory_bytes, note)

    def _feedback(self) -> StageCost:
        """Return the cost of the images made to find the scale, and of all gradients.

        A gradient goes through the decoder once and through the guide once for each view; with
        frozen weights it costs as much as two forward passes.
        """
        counts, facts, guide = self._counts, self._generator, self._backbone
        settings, size_px = self._config.generation, self._generator_px
        amount = (
            f"up to {counts.feedback_images:,} images more, {counts.feedback_steps:,} gradients"
        )
        if facts is None:
            return self._unknown("feedback", amount, settings.generator)
        if self._unknown_controlnet is not None:
            return self._unknown("feedback", amount, self._unknown_controlnet)
        images = counts.feedback_images * image_flops(
            facts, size_px, self._config, counts.steps_per_image
        )
        if settings.feedback == RANDOM:
            return self._stage("feedback", amount, images, 0.0, "a random direction, no gradient")
        if guide is None:
            return self._unknown("feedback", amount, self._config.classifier.model)
        decoded_px = size_px // 2 if settings.feedback_decoder == "half" else size_px
        each = 2 * at(facts.decode_flops, decoded_px**2)
        each += 2 * settings.feedback_views * self._forward_flops()
        batch = int(settings.batch_size)
        activations = (
            self._half * facts.decode_kept_bytes * decoded_px**2
            + settings.feedback_views * guide.vog_bytes * self._classifier_px**2
        )
        memory_bytes = (
            facts.parameters * self._weight_bytes + 4 * guide.parameters + batch * activations
        )
        note = f"batches of {batch}, {settings.feedback_views} views, halved when memory runs out"
        if settings.feedback_decoder not in ("vae", "half"):
            note += "; counted with the generator's autoencoder, a tiny one costs less"
        flops = images + counts.feedback_steps * each
        return self._stage("feedback", amount, flops, memory_bytes, note)

    def _score_and_filter(self) -> StageCost:
        """Return the cost of scoring real images and of the filter's input gradients, float32."""
        counts, facts, size_px = self._counts, self._backbone, self._classifier_px
        amount = f"{counts.scored_images:,} scored, {counts.vog_passes:,} input gradients"
        if facts is None:
            return self._unknown("score, filter", amount, self._config.classifier.model)
        # an input gradient costs as much as two forward passes
        flops = self._forward_flops() * (counts.scored_images + 2 * counts.vog_passes)
        if (encoder := self._models.get("filter.text_model")) is not None:
            amount += f", {counts.images:,} through {encoder.name}"
            flops += 2.0 * (encoder.parameters or 0) * TOKENS_OF_AN_IMAGE * counts.images
        batch = min(scoring_batch(size_px), counts.images_per_round) if counts.vog_passes else 0
        memory_bytes = batch * facts.vog_bytes * size_px**2 + 12 * facts.parameters
        note = f"batches of {scoring_batch(size_px)}, float32"
        return self._stage("score, filter", amount, flops, memory_bytes, note)

    def _train(self) -> StageCost:
        counts = self._counts
        amount = f"{counts.optimizer_steps:,} steps, {counts.training_images:,} images"
        if self._backbone is None:
            return self._unknown("train", amount, self._config.classifier.model)
        flops = 3 * self._forward_flops() * counts.training_images
        memory_bytes = self._training_bytes(self._config.training.batch_size)
        note = "includes the baseline without the agent" if counts.baseline else ""
        return self._stage("train", amount, flops, memory_bytes, note)

    def _forward_flops(self) -> float:
        facts = self._backbone
        return facts.flops * (self._classifier_px / facts.size_px) ** 2 if facts else 0.0

    def _training_bytes(self, batch: int) -> float:
        """Return activations, weights, gradients and momentum of the classifier's training."""
        facts = self._backbone
        if facts is None:
            return 0.0
        half = self._device.is_gpu and self._config.training.mixed_precision != "no"
        processes = self._config.training.processes  # decided: see `make_plan`
        batch = -(-batch // processes) if isinstance(processes, int) else batch
        activations = (1 if half else 2) * batch * facts.kept_bytes * self._classifier_px**2
        return activations + 12 * facts.parameters

    @staticmethod
    def _unknown(name: str, amount: str, model: str) -> StageCost:
        return StageCost(name, amount, note=f"{model}: not known here")

    def disk(self) -> Disk:
        """Return what the run takes on the disk."""
        # images without feedback are kept beside those with it
        plain = self._counts.feedback_rounds * self._config.generation.feedback_images
        images, size_px = self._counts.images + plain, self._generator_px
        per_px = PNG_BYTES_PER_PX["small" if size_px <= SMALL_PX else "large"]
        weights = 4 * self._backbone.parameters if self._backbone else None
        # two checkpoints with momentum, the VoG snapshots, the final weights
        states = 5 + len(self._config.filter.snapshot_at)
        downloads = [model.download_bytes for model in self._models.values()]
        return Disk(
            images=images * size_px**2 * per_px if size_px or not images else None,
            checkpoints=states * weights if weights else None,
            downloads=None if None in downloads else float(sum(size or 0 for size in downloads)),
        )

    def advice(self, stages: Sequence[StageCost]) -> Iterator[str]:
        """Yield a sentence for each stage that does not fit into the device's memory."""
        memory_bytes, name = self._device.memory_bytes, self._device.name
        for stage in stages:
            if stage.memory_bytes is None or stage.memory_bytes <= memory_bytes:
                continue
            yield (
                f"{stage.name} needs about {stage.memory_bytes / GIB:.0f} GiB of the "
                f"{memory_bytes / GIB:.0f} GiB of {name}: {self._smaller(stage.name)}."
            )

    def _smaller(self, stage: str) -> str:
        """Return what to change so that a stage needs less memory."""
        checkpointing = "set adaptation.gradient_checkpointing=on and "
        if self._config.adaptation.gradient_checkpointing == "on":
            checkpointing = ""
        match stage:
            case "caption":
                return "use a smaller captioner, such as Salesforce/blip-image-captioning-base"
            case "adapt":
                return f"{checkpointing}lower adaptation.batch_size"
            case "rewrite":
                return (
                    "use a smaller language model, such as Qwen/Qwen2.5-1.5B-Instruct, or serve it "
                    "and set prompting.rewriter=endpoint"
                )
            case "feedback":
                return (
                    "set generation.feedback_decoder=half or a tiny autoencoder, or lower "
                    "generation.batch_size; the batch is halved when memory runs out"
                )
            case "render":
                return "change nothing: the batch is halved when memory runs out"
            case "score, filter":
                return "set filter.by=knn, which needs no gradients, or lower classifier.size_px"
            case _:
                return self._smaller_batch()

    def _smaller_batch(self) -> str:
        training = self._config.training
        batch = training.batch_size
        while batch > 2:
            batch //= 2
            if self._training_bytes(batch) + RUNTIME_BYTES < self._device.memory_bytes:
                break
        rate = training.learning_rate * batch / training.batch_size
        return f"try training.batch_size={batch} with training.learning_rate={rate:g}"
