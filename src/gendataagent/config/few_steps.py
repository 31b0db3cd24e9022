"""Models and LoRAs distilled for few steps, recognised by name or metadata.

Each was distilled for a scheduler, a number of steps and a guidance, given on its model card (read
from memory: no hub could be reached). With others its images are noise or oversaturated.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from gendataagent.core.devices import AUTO
from gendataagent.core.files import expand, parse_others_json, read_bytes
from gendataagent.core.weight_files import WEIGHTS, find_files, metadata_of

STEPS, GUIDANCE = 30, 7.5  # of models that were not distilled


@dataclass(frozen=True, slots=True)
class FewSteps:
    """What a model or LoRA was distilled for.

    Args:
        family: its name, for sentences.
        scheduler: as in `generation.scheduler`; auto = the model's own.
        steps: of the whole noise schedule; `strength` decides how many of them are executed.
        guidance_scale: at most 1 = without guidance, one pass of the network a step.
    """

    family: str
    scheduler: str
    steps: int = 4
    guidance_scale: float = 0.0


_TRAILING_EULER, _TRAILING_DDIM = "EulerDiscreteScheduler:trailing", "DDIMScheduler:trailing"
# Patterns over words in lower case, separated by one space.
_LORAS = (
    (r"hyper sd(15|xl)?", FewSteps("Hyper-SD", _TRAILING_DDIM)),
    (r"sdxl lightning", FewSteps("SDXL-Lightning", _TRAILING_EULER)),
    (r"lcm", FewSteps("LCM", "LCMScheduler", guidance_scale=1.0)),
    (r"tcd", FewSteps("TCD", "TCDScheduler")),
    (r"sd ?(xl)? ?turbo", FewSteps("Turbo", _TRAILING_EULER)),
)
_TURBO = FewSteps("Turbo", AUTO)
_MODELS = ((r"sd(xl)? turbo", _TURBO),)
_OTHER_BASES = r"hyper (sd3|flux)"  # at another scale, with guidance: to be set by hand
_STEPS = r"(\d+) ?steps?"
_WITH_GUIDANCE = r"\bcfg\b"  # Hyper-SD: distilled to be used with guidance of 5 to 8


def recognise_lora(lora: str) -> FewSteps | None:
    """Return what a LoRA was distilled for; None where nothing says that it was.

    Args:
        lora: as in `generation.few_step_lora`. Of a file on this machine the metadata in its header
            is read too.
    """
    if not lora:
        return None
    for words in _described(lora):
        if re.search(rf"\b{_OTHER_BASES}", words):
            return None
        if found := _find(words, _LORAS):
            return _as_named(found, words)
    return None


def recognise_model(name: str) -> FewSteps | None:
    """Return what a generator was distilled for; None as above.

    It is recognised by the last part of its name, in a folder also by its scheduler: Euler with
    trailing steps.
    """
    place = expand(name)
    for words in _names(place) if place.is_dir() else [_words(PurePath(name).name)]:
        if found := _find(words, _MODELS, whole=True):
            return found
    try:
        config = parse_others_json(read_bytes(place / "scheduler" / "scheduler_config.json"))
        of_turbo = str(config["_class_name"]).startswith("Euler")
        return _TURBO if of_turbo and config["timestep_spacing"] == "trailing" else None
    except (OSError, ValueError, LookupError, TypeError):  # what loads it names a fault
        return None


def _find(
    words: str, table: tuple[tuple[str, FewSteps], ...], *, whole: bool = False
) -> FewSteps | None:
    patterns = ((rf"^{p}$" if whole else rf"\b{p}\b", found) for p, found in table)
    return next((found for pattern, found in patterns if re.search(pattern, words)), None)


def _as_named(found: FewSteps, words: str) -> FewSteps:
    """Return the values with the number of steps and the guidance that the name gives."""
    if found.family not in ("Hyper-SD", "SDXL-Lightning"):
        return found
    named = re.search(_STEPS, words)
    steps = int(named[1]) if named else found.steps
    if found.family == "Hyper-SD" and re.search(_WITH_GUIDANCE, words):
        return replace(found, steps=steps, guidance_scale=5.0)
    if found.family == "Hyper-SD" and steps == 1:  # for any number of steps, by TCD
        return replace(found, scheduler="TCDScheduler")
    return replace(found, steps=max(1, steps))


def _described(lora: str) -> list[str]:
    """Return the words of its name, then those of its metadata."""
    path = expand(lora)
    if not path.exists():
        return [_words(lora)]
    file = path
    if path.is_dir():
        files = find_files(path, f"*{WEIGHTS}", deep=False)
        file = files[0] if len(files) == 1 else path
    try:
        texts = list(metadata_of(file).values()) if file.is_file() else []
    except ValueError:  # what loads it names the fault
        texts = []
    own = [_words(file.name)] if file.is_file() else []
    return [*own, *_names(file.parent if file.is_file() else file), *map(_words, texts)]


def _names(folder: Path) -> list[str]:
    """Return the words of a folder's name, and of the repository if the hub's cache holds it."""
    parts = folder.absolute().parts
    cached = [part.rpartition("--")[2] for part in parts if part.startswith("models--")]
    return [_words(name) for name in (parts[-1], *cached)]


def _words(text: str) -> str:
    return " ".join(re.split(r"[^a-z0-9]+", text.casefold().removesuffix(WEIGHTS))).strip()
