"""The models that a run loads: how large they are and where they are."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from gendataagent.agent.filtering.text_agreement import TEXT_AGREEMENT
from gendataagent.config import RunConfig
from gendataagent.config.training import TIMM_PREFIX
from gendataagent.core.files import expand
from gendataagent.core.hub import ModelSource, cached_file, looks_like_path
from gendataagent.core.records import RETRIEVAL, WITH_EDGES
from gendataagent.core.weight_files import stored_in, weight_files
from gendataagent.generation.diffusion.lora import is_on_hub
from gendataagent.runs.planning.facts import MODELS

BUNDLED, HERE, HUB, SERVER, MISSING = "bundled", "on this machine", "hub", "server", "missing"
_OURS = frozenset(
    {RETRIEVAL, "tiny-sd", "tiny-resnet", "visible-attributes", "scenes", "contexts", "none"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelNeeded:
    """One model of a run.

    Args:
        setting: the key that names it.
        where: bundled, on this machine, hub (to be downloaded), server, or missing (no folder).
        weight_bytes: of its files; None = not known.
        parameters: None = not known.
    """

    setting: str
    name: str
    where: str
    weight_bytes: int | None = None
    parameters: int | None = None
    gated: bool = False

    @property
    def download_bytes(self) -> int | None:
        """Size of the download; None = not known."""
        return self.weight_bytes if self.where == HUB else 0


def models_needed(config: RunConfig) -> Iterator[ModelNeeded]:
    """Yield the models a run loads, without loading them and without a network.

    The "auto" of every setting must have been resolved.
    """
    prompting, generation, classifier = config.prompting, config.generation, config.classifier
    if config.agent.enabled:
        yield _model(
            "generation.generator", generation.generator, generation.revision,
            index_file="model_index.json", variant=generation.variant,
        )  # fmt: skip
        if generation.generator == RETRIEVAL:
            yield _model(
                "generation.retrieval_model", generation.retrieval_model, generation.revision
            )
        if generation.condition == WITH_EDGES:
            yield _model(
                "generation.controlnet", generation.controlnet, generation.controlnet_revision
            )
        for setting in ("few_step_lora", "lora"):
            if lora := getattr(generation, setting):
                yield _lora(f"generation.{setting}", lora)
        for setting in ("class_tokens", "class_loras"):
            if name := getattr(generation, setting):
                yield _model(f"generation.{setting}", name)
        if generation.decoder != "vae":
            yield _model("generation.decoder", generation.decoder)
        yield _model("prompting.captioner", prompting.captioner, prompting.captioner_revision)
        if prompting.rewriter == "endpoint":
            name = f"{prompting.endpoint_model} at {prompting.endpoint_url}"
            yield ModelNeeded(setting="prompting.rewriter", name=name, where=SERVER)
        else:
            yield _model("prompting.rewriter", prompting.rewriter, prompting.rewriter_revision)
        if config.filter.by == TEXT_AGREEMENT:
            settings = config.filter
            yield _model("filter.text_model", settings.text_model, settings.text_model_revision)
    needed = _model("classifier.model", classifier.model, classifier.revision)
    if not classifier.pretrained and needed.where == HUB:
        needed = replace(needed, weight_bytes=0)  # only its config is fetched
    yield needed


def _lora(setting: str, name: str) -> ModelNeeded:
    """Return a LoRA: a path, OWNER/NAME or OWNER/NAME/FILE.safetensors."""
    file = "pytorch_lora_weights.safetensors"
    if not is_on_hub(name):
        return _model(setting, name)
    owner, repository, *inside = name.split("/")
    return replace(
        _model(setting, f"{owner}/{repository}", index_file="/".join(inside) or file), name=name
    )


def _model(
    setting: str,
    name: str,
    revision: str = "",
    *,
    index_file: str = "config.json",
    variant: str = "",
) -> ModelNeeded:
    known, place = MODELS.get(name), expand(name)
    size: int | None = known.download_bytes(variant) if known else None
    parameters: int | None = known.parameters if known else None
    if name in _OURS:
        where, size, parameters = BUNDLED, None, parameters or 0
    elif place.exists():
        where = HERE
        size, parameters = weights_on_disk(place)
    elif looks_like_path(name):
        where, size, parameters = MISSING, None, None
    else:
        where = HERE if is_cached(name, index_file, revision) else HUB
    return ModelNeeded(
        setting=setting,
        name=name,
        where=where,
        weight_bytes=size,
        parameters=parameters,
        gated=known is not None and known.gated,
    )


def is_cached(name: str, index_file: str, revision: str = "") -> bool:
    """Return whether the hub's cache on this machine has a model and weights of it.

    An index file alone is no sign of weights: checks fetch it.
    """
    source = ModelSource(setting="", kind="", name=name, revision=revision)
    index = None if name.startswith(TIMM_PREFIX) else cached_file(source, index_file)
    return index is not None and any(path.is_file() for path in weight_files(index.parent))


def weights_on_disk(place: Path) -> tuple[int, int]:
    """Return (bytes, number of weights) of the safetensors files of a folder or of one file.

    Of a folder that holds several variants of the same weights, all are counted as bytes, but the
    weights once.
    """
    files = [place] if place.is_file() else [p for p in weight_files(place) if p.is_file()]
    plain = [file for file in files if len(file.suffixes) == 1 or file.name.startswith("model-")]
    return sum(file.stat().st_size for file in files), sum(map(_weights, plain or files))


def _weights(file: Path) -> int:
    """Return the number of weights in a safetensors file, from its header; 0 of a broken one."""
    try:
        return sum(math.prod(tensor.shape) for tensor in stored_in(file).values())
    except ValueError:  # loading it reports the fault
        return 0
