"""The specification of a generator: what can be known of it without loading it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

from gendataagent.config import AUTO, GenerationConfig
from gendataagent.core import hub
from gendataagent.core.devices import image_dtype_name
from gendataagent.core.hub import ModelSource
from gendataagent.core.records import ModelDescription
from gendataagent.generation.diffusion.batching import largest_batch
from gendataagent.generation.diffusion.class_loras import check_loras_fit, read_class_loras
from gendataagent.generation.diffusion.class_tokens import class_tokens_revision, read_class_tokens
from gendataagent.generation.diffusion.control import Control
from gendataagent.generation.diffusion.lora import Lora, add_lora, find_lora, lora_revision
from gendataagent.generation.diffusion.mirrors import with_mirrors
from gendataagent.generation.feedback import OFF


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffusionSpec:
    """Names a pipeline and how to run it; small and picklable.

    `from_config` decides what the settings leave open.

    Args:
        model: path of a saved pipeline, or hub id.
        revision: on the hub; "" = the pinned commit for SD 1.5, else the newest.
        variant: file variant on the hub, such as "fp16"; "" = the plain files.
        size_px: side of the images; 0 = the model's own.
        scheduler: name of a diffusers class, or auto.
        dtype: name of a torch dtype, or auto.
        device: name of a torch device.
        lora: LoRA weights: a safetensors file, a folder or a hub id; "" = none.
        lora_scale: strength of the LoRA; 0 = none, 1 = as trained.
        few_step_lora: LoRA weights for few steps, merged at strength 1; "" = none.
        class_tokens: words of its own for each class, see `class_tokens`; "" = none.
        class_loras: a LoRA for each class, see `class_loras`; "" = none.
        trust_remote_code: whether to run Python code that comes with the model.
        batch_size: images per pipeline call.
        channels_last, fuse_qkv, compile, decoder: see `switches`.
        merge_tokens: share of the tokens to merge, see `token_merging`; 0 = none.
        feedback_decoder: what decodes the clean latent for feedback, see
            `generation.feedback.decoding`; "" = there is no feedback.
        control: the ControlNet that draws along the edges of the source; None = there is none.
        steps: scheduler steps that requests will ask for, to check; 0 = not known.
    """

    model: str
    revision: str = ""
    variant: str = ""
    size_px: int = 0
    scheduler: str = AUTO
    dtype: str = AUTO
    device: str = "cpu"
    lora: str = ""
    lora_scale: float = 0.5
    few_step_lora: str = ""
    class_tokens: str = ""
    class_loras: str = ""
    trust_remote_code: bool = False
    batch_size: int = 8
    channels_last: bool = False
    fuse_qkv: bool = False
    compile: bool = False
    decoder: str = "vae"
    merge_tokens: float = 0.0
    feedback_decoder: str = ""
    control: Control | None = None
    steps: int = field(default=0, compare=False, repr=False)

    @classmethod
    def from_config(
        cls, config: GenerationConfig, model: str, device: str, *, trust_remote_code: bool = False
    ) -> Self:
        """Return the specification of `model` with the settings of `config`."""
        spec = cls(
            model=model,
            revision=config.revision,
            variant=config.variant,
            size_px=config.size_px,
            scheduler=config.sampler,
            dtype=config.dtype,
            device=device,
            lora=config.lora,
            lora_scale=config.lora_scale,
            few_step_lora=config.few_step_lora,
            class_tokens=config.class_tokens,
            class_loras=config.class_loras,
            trust_remote_code=trust_remote_code,
            channels_last=config.channels_last,
            fuse_qkv=config.fuse_qkv,
            compile=config.compile,
            decoder=config.decoder,
            merge_tokens=config.merge_tokens,
            feedback_decoder="" if config.feedback == OFF else config.feedback_decoder,
            control=Control.from_config(config),
            steps=config.steps,
        )
        batch_size = config.batch_size
        return replace(
            spec,
            batch_size=batch_size if isinstance(batch_size, int) else spec._largest_batch(),
        )

    def _largest_batch(self) -> int:
        sources = with_mirrors(self.source)
        return largest_batch(
            next((source for source in sources if hub.is_here(source)), sources[0]),
            size_px=self.size_px,
            dtype=image_dtype_name(self.dtype, self.device),
            device=self.device,
            gradients=bool(self.feedback_decoder),
        )

    @property
    def loras(self) -> tuple[Lora, ...]:
        """The LoRAs to merge, in order."""
        named = (
            Lora("generation.few_step_lora", self.few_step_lora, 1.0),
            Lora("generation.lora", self.lora, self.lora_scale),
        )
        return tuple(lora for lora in named if lora.name)

    @property
    def source(self) -> ModelSource:
        """The folder or hub repository of the pipeline."""
        return ModelSource(
            setting="generation.generator",
            kind="an image-to-image pipeline of diffusers",
            name=self.model,
            index_file="model_index.json",
            revision=self.revision,
            trust_remote_code=self.trust_remote_code,
            instead="Or try generation.generator=tiny-sd, which is bundled.",
        )

    def describe(self) -> ModelDescription:
        """Return name and revision without loading the model: a folder's hash or a hub commit.

        For SD 1.5 it is the mirror found on this machine. A ControlNet and LoRAs add their hash
        and scale to the revision, words of the classes their hash.
        """
        sources = with_mirrors(self.source)
        source = next((source for source in sources if hub.is_here(source)), sources[0])
        revision = hub.revision_of(source)
        if self.control is not None:
            revision += self.control.revision_part
        for lora in self.loras:
            revision += f"+lora:{lora_revision(lora.name)}@{lora.scale:g}"
        if self.class_tokens:
            revision += f"+class_tokens:{class_tokens_revision(self.class_tokens)}"
        if self.class_loras:
            revision += (
                f"+class_loras:{read_class_loras(self.class_loras).revision}@{self.lora_scale:g}"
            )
        name = source.name if source.folder is None else source.folder.resolve().name
        return ModelDescription(name=name, revision=revision)

    def class_words(self, class_names: Sequence[str]) -> Mapping[str, str]:
        """Return class name -> its word in prompts, where the generator has words of its own.

        Raises:
            ConfigError: it was adapted, class by class, and not to one of these classes.
            ModelError: what it was adapted to cannot be read.
        """
        if self.class_loras:
            read_class_loras(self.class_loras).check_classes(class_names)
        if not self.class_tokens:
            return {}
        return read_class_tokens(self.class_tokens).words(class_names)

    def check(self) -> None:
        """Raise for every fault that shows without loading the weights.

        Raises:
            ModelError: the pipeline, its ControlNet, a LoRA or words of classes are missing,
                incomplete or of the wrong kind.
            ConfigError: `size_px` does not suit the model.
        """
        sources = with_mirrors(self.source)
        hub.check_first(sources)
        for lora in self.loras:
            find_lora(lora)
        tokens = read_class_tokens(self.class_tokens) if self.class_tokens else None
        class_loras = read_class_loras(self.class_loras) if self.class_loras else None
        if class_loras is not None:
            class_loras.check()
        # here, because they import torch
        from gendataagent.generation.diffusion.controlnet import (
            check_takes_controlnet,
            controlnet_without_weights,
            with_controlnet,
        )
        from gendataagent.generation.diffusion.fit import check_fit
        from gendataagent.generation.diffusion.parts import check_tiny, pipeline_without_weights
        from gendataagent.generation.diffusion.schedulers import check_steps, choose_scheduler
        from gendataagent.generation.diffusion.signature import CallSignature, denoiser_of
        from gendataagent.generation.diffusion.steerable import check_steerable
        from gendataagent.generation.diffusion.token_embeddings import check_tokens_fit
        from gendataagent.generation.diffusion.token_merging import mergeable
        from gendataagent.generation.feedback.decoding import HALF, VAE

        source = next((source for source in sources if hub.is_here(source)), sources[0])
        control = self.control
        controlnet = controlnet_without_weights(control) if control else None
        pipeline = pipeline_without_weights(source, variant=self.variant)
        if pipeline is None:
            return
        if control is not None:
            check_takes_controlnet(pipeline, self.model)
            if controlnet is not None:
                pipeline = with_controlnet(pipeline, controlnet, control, self.model)
        used = control if controlnet is not None else None
        if control is None or used is not None:
            CallSignature.of(pipeline, self.model, self.size_px, used)
        check_fit(pipeline, self.model)
        for setting, name in (
            ("generation.decoder", self.decoder),
            ("generation.feedback_decoder", self.feedback_decoder),
        ):
            if name not in ("", VAE, HALF):
                check_tiny(pipeline, name, setting)
        scheduler = choose_scheduler(self.scheduler, pipeline.scheduler)
        check_steps(scheduler, self.steps)
        if tokens is not None:
            check_tokens_fit(pipeline, tokens)
        if class_loras is not None:
            check_loras_fit(pipeline, class_loras)
        if self.merge_tokens:
            mergeable(denoiser_of(pipeline))
        if self.feedback_decoder:
            check_steerable(scheduler, pipeline.vae, self.model)
        for lora in self.loras:
            add_lora(pipeline, lora)
            pipeline.unload_lora_weights()  # the next one is checked by itself
