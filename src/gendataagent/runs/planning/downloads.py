"""Which models a run loads: how large, where they are, and what may stand in the way."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gendataagent.config import RunConfig
from gendataagent.core.hub import WEIGHTS, looks_like_path
from gendataagent.runs.planning.facts import BACKBONES, PUBLISHED

BUNDLED, HERE, HUB, SERVER, MISSING = "bundled", "on this machine", "hub", "server", "missing"
_OURS = frozenset({"tiny-sd", "tiny-resnet", "visible-attributes", "none"})


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
        """What has to be downloaded; None = not known."""
        return self.weight_bytes if self.where == HUB else 0


def models_needed(config: RunConfig) -> list[ModelNeeded]:
    """Return the models a run loads; looks on the disk, asks no network and loads nothing.

    The "auto" of every setting must have been decided.
    """
    return list(_models(config))


def _models(config: RunConfig) -> Iterator[ModelNeeded]:
    prompting, generation = config.prompting, config.generation
    if config.agent.enabled:
        yield _model(
            "generation.generator",
            generation.generator,
            index_file="model_index.json",
            revision=generation.revision,
            variant=generation.variant,
        )
        if generation.lora:
            yield _model("generation.lora", generation.lora, index_file="")
        yield _model(
            "prompting.captioner", prompting.captioner, revision=prompting.captioner_revision
        )
        if prompting.rewriter == "endpoint":
            name = f"{prompting.endpoint_model} at {prompting.endpoint_url}"
            yield ModelNeeded(setting="prompting.rewriter", name=name, where=SERVER)
        else:
            yield _model(
                "prompting.rewriter", prompting.rewriter, revision=prompting.rewriter_revision
            )
    model = config.classifier.model
    needed = _model("classifier.model", model, revision=config.classifier.revision)
    if not config.classifier.pretrained and needed.where == HUB:
        # Only its config is fetched.
        needed = ModelNeeded(
            setting=needed.setting, name=model, where=HUB, weight_bytes=0,
            parameters=needed.parameters,
        )  # fmt: skip
    yield needed


def _model(
    setting: str,
    name: str,
    *,
    index_file: str = "config.json",
    revision: str = "",
    variant: str = "",
) -> ModelNeeded:
    if name in _OURS:
        known = BACKBONES.get(name)
        return ModelNeeded(
            setting=setting, name=name, where=BUNDLED, parameters=known.parameters if known else 0
        )
    place = Path(name).expanduser()
    if place.exists():
        size, parameters = weights_on_disk(place)
        return ModelNeeded(
            setting=setting, name=name, where=HERE, weight_bytes=size, parameters=parameters
        )
    if looks_like_path(name):
        return ModelNeeded(setting=setting, name=name, where=MISSING)
    published = PUBLISHED.get(name)
    return ModelNeeded(
        setting=setting,
        name=name,
        where=HERE if _is_cached(name, index_file, revision) else HUB,
        weight_bytes=published.download_bytes(variant) if published else None,
        parameters=published.parameters if published else None,
        gated=published.gated if published else False,
    )


def _is_cached(name: str, index_file: str, revision: str) -> bool:
    """Return whether the hub's cache on this machine has a model and weights of it.

    The index file alone is fetched by checks, so it is no sign of the weights.
    """
    if name.startswith("timm:"):
        return False
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(
            name, index_file or "pytorch_lora_weights.safetensors", revision=revision or None
        )
    except HFValidationError:
        return False
    return isinstance(found, str) and any(Path(found).parent.rglob(f"*{WEIGHTS}"))


def weights_on_disk(place: Path) -> tuple[int, int]:
    """Return (bytes, number of weights) of the safetensors files of a folder or of one file.

    Of a folder that holds several variants of the same weights, all are counted as bytes, but the
    weights once.
    """
    files = [place] if place.is_file() else sorted(place.rglob(f"*{WEIGHTS}"))
    size, parameters = sum(file.stat().st_size for file in files), 0
    plain = [file for file in files if len(file.suffixes) == 1 or file.name.startswith("model-")]
    for file in plain or files:
        parameters += sum(math.prod(shape) for shape in _shapes(file))
    return size, parameters


def _shapes(file: Path) -> list[list[int]]:
    """Return the shapes in a safetensors file's header; none of a file that is broken."""
    try:
        with open(file, "rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(length))
        return [entry["shape"] for key, entry in header.items() if key != "__metadata__"]
    except (OSError, ValueError, LookupError, TypeError):  # loading it says what is wrong
        return []
