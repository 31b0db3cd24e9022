"""Which generator to build, known without loading it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from gendataagent.config import AUTO, GenerationConfig
from gendataagent.core import hub
from gendataagent.core.hub import ModelSource
from gendataagent.core.records import ModelDescription
from gendataagent.generation.diffusion import mirrors
from gendataagent.generation.diffusion.lora import find_lora, lora_revision


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffusionSpec:
    """Names a pipeline and how it is used; small and picklable.

    Args:
        model: path of a saved pipeline, or hub id.
        revision: of the hub; "" = the pinned one where there is one, else the newest.
        variant: of the files, such as "fp16"; "" = the plain ones.
        size_px: side of the images; 0 = the model's own.
        scheduler: diffusers class by name, or auto.
        dtype: torch dtype by name, or auto.
        device: torch device, as text.
        lora: LoRA weights: a safetensors file, a folder or a hub id; "" = none.
        lora_scale: how strongly they act; 0 = not at all, 1 = as they were trained.
        trust_remote_code: run Python code that comes with the model.
        batch_size: images drawn at once.
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
    trust_remote_code: bool = False
    batch_size: int = 8

    @classmethod
    def from_config(
        cls, config: GenerationConfig, model: str, device: str, *, trust_remote_code: bool = False
    ) -> Self:
        """Return the specification of `model` with the settings of `config`."""
        return cls(
            model=model,
            revision=config.revision,
            variant=config.variant,
            size_px=config.size_px,
            scheduler=config.scheduler,
            dtype=config.dtype,
            device=device,
            lora=config.lora,
            lora_scale=config.lora_scale,
            trust_remote_code=trust_remote_code,
            batch_size=config.batch_size,
        )

    @property
    def source(self) -> ModelSource:
        """Where the pipeline comes from."""
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
        """Return name and revision without loading it: a folder's hash, a hub commit.

        Of SD 1.5 it names the mirror that is on this machine. A LoRA's hash and scale belong to the
        revision.
        """
        here = list(mirrors.places(self.source))
        source = next((place for place in here if hub.is_here(place)), here[0])
        revision = hub.revision_of(source)
        if self.lora:
            revision += f"+lora:{lora_revision(self.lora)}@{self.lora_scale:g}"
        name = source.name if source.folder is None else source.folder.resolve().name
        return ModelDescription(name=name, revision=revision)

    def check(self) -> None:
        """Raise `ModelError` for what can be known to be wrong without loading the pipeline."""
        hub.check_first(list(mirrors.places(self.source)))
        if self.lora:
            find_lora(self.lora)
