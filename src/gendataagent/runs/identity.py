"""Whether the models and settings of a run are still those that it was started with, by content."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path

from gendataagent.agent.filtering.text_agreement import TEXT_AGREEMENT, source_of
from gendataagent.config import RunConfig
from gendataagent.config.paths import is_place
from gendataagent.config.run_config_file import (
    check_unchanged,
    read_run_config,
    write_run_config,
)
from gendataagent.config.settings import iterate_settings
from gendataagent.core import hub
from gendataagent.core.errors import RunFolderError
from gendataagent.core.progress import Progress
from gendataagent.core.records import ModelDescription
from gendataagent.core.run_folder import RunFolder
from gendataagent.generation.backends import Backends, build_backends
from gendataagent.runs.splits import read_splits

_SETTING_OF_PART = {
    "controlnet": "generation.controlnet", "folder": "generation.retrieval_folder",
    "class_tokens": "generation.class_tokens", "class_loras": "generation.class_loras",
}  # fmt: skip
_COMMIT = re.compile("[0-9a-f]{40}")
_ADAPTED = re.compile(r"\+(?:lora|class_tokens|class_loras):")


def classifier_description(config: RunConfig) -> ModelDescription | None:
    """Return the classifier that training starts from, if it is a folder: a hash of its files."""
    rows = [row for row in iterate_settings(config) if row.key == "classifier.model"]
    place = Path(config.classifier.model).expanduser()
    if not all(map(is_place, rows)) or not place.is_dir():
        return None
    return ModelDescription(name=place.resolve().name, revision=hub.content_hash(place))


def text_model_description(config: RunConfig) -> ModelDescription | None:
    """Return the image-text encoder of the filter, if the filter has one."""
    if not config.agent.enabled or config.filter.by != TEXT_AGREEMENT:
        return None
    source = source_of(config.filter)
    name = source.name if source.folder is None else source.folder.resolve().name
    return ModelDescription(name=name, revision=hub.revision_of(source))


def check_same_models(folder: RunFolder, config: RunConfig, backends: Backends | None) -> None:
    """Raise `RunFolderError` if settings or models are not those of the manifest, by content.

    A model of the hub whose commit was not known at the start is taken for the same.
    """
    manifest = folder.read_manifest()
    check_unchanged(folder, config, manifest.config_hash)
    pairs = {
        "classifier.model": (manifest.classifier, classifier_description(config)),
        "filter.text_model": (manifest.text_model, text_model_description(config)),
    }
    if backends is not None:
        pairs |= {
            "prompting.captioner": (manifest.captioner, backends.captioner.description),
            "prompting.rewriter": (manifest.rewriter, backends.rewriter.description),
            "generation.generator": (manifest.generator, backends.generator.describe()),
        }
    for key, (then, now) in pairs.items():
        if then is None or now is None:
            continue
        if config.adaptation.enabled:  # the manifest names it as adapted, once it is
            then = replace(then, revision=_ADAPTED.split(then.revision)[0])
        if (part := _different_part(then.revision, now.revision)) is not None:
            key = _SETTING_OF_PART.get(part, key)
            raise RunFolderError(
                f"{key}: the model {now.name} is not the one that the run in {folder.path} was "
                f"started with: its files have changed (revision {then.revision} then, "
                f"{now.revision} now). Put the earlier ones back, or start a new run with --out"
            )


def move_finished(folder: RunFolder, config: RunConfig, progress: Progress) -> None:
    """Write new paths into the settings of a finished run, if their content is the same.

    Raises:
        DataError, ModelError, RunFolderError: it cannot be read, or is not the same.
    """
    if config.data.path != read_run_config(folder).data.path:
        read_splits(folder.path, data=config.data.path, progress=progress)
    check_same_models(folder, config, build_backends(config) if config.agent.enabled else None)
    write_run_config(folder, config)


def _different_part(then: str, now: str) -> str | None:
    """Return what is another one of two revisions: "" = the model, else the name of the part.

    None where nothing is, or where one is not known or of another kind, a hash and a commit.
    """
    for one, other in zip_longest(then.split("+"), now.split("+"), fillvalue=""):
        name, revisions = one.rpartition(":")[0], [r.rpartition(":")[2] for r in (one, other)]
        known = [revision.partition("@")[0] for revision in revisions]
        kinds = [_COMMIT.fullmatch(revision) is None for revision in known]
        if all(known) and kinds[0] == kinds[1] and revisions[0] != revisions[1]:
            return name
    return None
