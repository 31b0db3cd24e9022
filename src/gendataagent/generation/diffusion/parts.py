"""The parts of a saved pipeline, checked and put together without loading its weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from gendataagent.core import hub
from gendataagent.core.completeness import (
    DIFFUSERS_STEM,
    TRANSFORMERS_STEM,
    is_quantised,
    lacks_of_diffusers,
    lacks_of_transformers,
    read_stored,
    refuse_packed,
    warn_not_here,
    warn_unchecked,
)
from gendataagent.core.errors import ModelError
from gendataagent.core.files import parse_others_json, read_bytes
from gendataagent.core.hub import ModelSource
from gendataagent.core.weight_files import WEIGHTS, StoredModel, find_files
from gendataagent.generation.diffusion.quiet import import_diffusers_quietly
from gendataagent.generation.feedback.decoding import check_channels

INDEX_FILE = "model_index.json"


def pipeline_without_weights(source: ModelSource, *, variant: str = "") -> Any | None:
    """Return the image-to-image pipeline of a model on this machine, its networks without memory.

    They are checked (`check_networks`); tokenizers and scheduler are loaded.

    Returns:
        None, with a warning, where a part can only be checked by loading it.

    Raises:
        ModelError: a part is missing, incomplete or of another model, or brings code of its own
            that may not be run.
    """
    networks = check_networks(source, variant=variant)
    if networks is None:
        return None
    try:
        return import_diffusers_quietly().AutoPipelineForImage2Image.from_pretrained(
            str(hub.local_folder(source)),
            local_files_only=True,
            use_safetensors=True,
            variant=variant or None,
            trust_remote_code=source.trust_remote_code,
            **networks,
        )
    except Exception as error:  # the libraries raise a dozen types for the same faults
        raise ModelError(hub.advice(source, error)) from error


def check_networks(source: ModelSource, *, variant: str = "") -> dict[str, Any] | None:
    """Return the networks that model_index.json names, on the meta device: part -> network.

    Of each the files are checked, and the names and shapes of its tensors by their headers.

    Args:
        variant: file variant such as "fp16"; "" = the plain files.

    Returns:
        None, with a warning, where one can only be checked by loading it.

    Raises:
        ModelError: a part is missing, incomplete or of another model, or brings code of its own
            that may not be run; the message names file and tensor.
    """
    folder = hub.local_folder(source)
    if folder is None:
        warn_not_here(source, "it is not on this machine yet")
        return None
    diffusers = import_diffusers_quietly()
    networks, all_checked = {}, True
    for name, (library, class_name) in _named_parts(source, folder).items():
        if not (folder / name).is_dir():
            _absent(source, f"{folder} has no folder {name}, which {INDEX_FILE} names")
            all_checked = False
            continue
        _check_settings(source, folder / name)
        if (folder / name / f"{library}.py").is_file():
            if not source.trust_remote_code:
                raise ModelError(hub.advice(source, ValueError("trust_remote_code is needed")))
            warn_unchecked(source, f"its {name} has its own code")
            all_checked = False
        elif cls := _class_of(diffusers, library, class_name):
            network = _network(source, folder / name, cls, variant)
            all_checked = all_checked and network is not None
            networks[name] = network
    return networks if all_checked else None


def check_tiny(pipeline: Any, name: str, setting: str) -> None:
    """Raise for every fault of a tiny autoencoder that shows without loading its weights.

    Args:
        pipeline: whose latents it decodes.
        name: a folder or hub id.
        setting: which names it, for messages.

    Raises:
        ModelError: it is missing, incomplete, or does not fit the latents.
    """
    source = ModelSource(
        setting=setting,
        kind="an AutoencoderTiny of diffusers",
        name=name,
        index_file="config.json",
        instead="Use vae, or a name such as madebyollin/taesd",
    )
    hub.check(source)
    tiny = check_network(source, "AutoencoderTiny")
    if tiny is not None:
        check_channels(pipeline, tiny, name, setting)


def check_network(source: ModelSource, class_name: str) -> Any | None:
    """Return a network of diffusers that is saved by itself, on the meta device, its files checked.

    Returns:
        None, with a warning, where it can only be checked by loading it.

    Raises:
        ModelError: it is incomplete, or of another class.
    """
    folder = hub.local_folder(source)
    if folder is None:
        warn_not_here(source, "it is not on this machine yet")
        return None
    _check_settings(source, folder)
    named = parse_others_json(read_bytes(folder / source.index_file)).get("_class_name")
    if named != class_name:
        raise ModelError(
            f"{source.setting}: {source.name} is a {named}, not {source.kind} of the class "
            f"{class_name}. {source.instead}".rstrip()
        )
    return _network(source, folder, getattr(import_diffusers_quietly(), class_name), "")


def _named_parts(source: ModelSource, folder: Path) -> dict[str, tuple[str, str]]:
    """Return part -> (library, class) of the index, those that are set to null left out."""
    try:
        index = parse_others_json(read_bytes(folder / INDEX_FILE))
        parts = {
            name: (str(entry[0]), str(entry[1]))
            for name, entry in index.items()
            if isinstance(entry, list) and len(entry) == 2 and entry[0] and not name.startswith("_")
        }
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise ModelError(hub.advice(source, error)) from error
    if not isinstance(index.get("_class_name"), str):
        raise ModelError(
            f"{source.setting}: {INDEX_FILE} of {source.name} names no pipeline of diffusers; name "
            f"{source.kind}"
        )
    if "controlnet" in parts:
        raise ModelError(
            f"{source.setting}: {source.name} was saved with a ControlNet, which is named by "
            "itself here; name the plain generator, and for images that follow edges set "
            f"generation.condition=edges and generation.controlnet={source.name}/controlnet"
        )
    return parts


def _check_settings(source: ModelSource, folder: Path) -> None:
    """Raise unless the settings of a part are JSON objects: diffusers takes a string for the name
    of a model, and would download it.
    """
    for path in find_files(folder, "*config.json", deep=False):
        try:
            is_object = isinstance(parse_others_json(read_bytes(path)), dict)
            reason = "it holds no settings"
        except (OSError, ValueError) as error:
            is_object, reason = False, str(error)
        if not is_object:
            raise ModelError(
                f"{source.setting}: {path} cannot be read ({reason}); download the complete model "
                "again"
            )


def _class_of(diffusers: Any, library: str, class_name: str) -> Any | None:
    """Return a part's class if it is a network of diffusers or transformers."""
    import transformers

    homes = {"diffusers": diffusers, "transformers": transformers}
    home = getattr(diffusers.pipelines, library, None) or homes.get(library)
    cls = getattr(home, class_name, None)
    networks = (diffusers.ModelMixin, transformers.PreTrainedModel)
    return cls if isinstance(cls, type) and issubclass(cls, networks) else None


def _network(source: ModelSource, folder: Path, cls: Any, variant: str) -> Any | None:
    """Return one network on the meta device; None where it can only be checked by loading it."""
    import diffusers

    is_own = issubclass(cls, diffusers.ModelMixin)
    stem = DIFFUSERS_STEM if is_own else TRANSFORMERS_STEM
    used = variant if variant and _has_variant(folder, variant) else ""
    stored = read_stored(source, folder, stem, variant=used, index_first=is_own)
    if stored is None:
        file = f"{stem}.{used}{WEIGHTS}" if used else f"{stem}{WEIGHTS}"
        _absent(source, f"{folder} has no {file}: it {hub.without_weights(folder)}")
        return None
    try:
        config = (
            cls.load_config(str(folder)) if is_own else cls.config_class.from_pretrained(folder)
        )
    except Exception as error:  # as when it is loaded
        raise ModelError(hub.advice(replace(source, name=str(folder)), error)) from error
    if is_quantised(config):
        warn_unchecked(source, f"the weights of its {folder.name} are packed")
        return None
    refuse_packed(source, stored)
    return _filled(source, folder, cls, config, stored, is_own=is_own)


def _filled(
    source: ModelSource, folder: Path, cls: Any, config: Any, stored: StoredModel, *, is_own: bool
) -> Any | None:
    try:
        read = lacks_of_diffusers if is_own else lacks_of_transformers
        network, lacks = read(cls, config, stored)
    except Exception as error:  # a class may need its numbers to be built
        warn_unchecked(source, f"its {folder.name} cannot be built without its weights ({error})")
        return None
    if lacks:
        raise ModelError(f"{source.setting}: {lacks.sentence(str(stored.listed_in), stored)}")
    return network


def _absent(source: ModelSource, fault: str) -> None:
    """Raise for a folder, and for a part of a hub model that cannot be downloaded either."""
    if source.folder is not None:
        raise ModelError(f"{source.setting}: {fault}. {source.instead}".rstrip())
    warn_not_here(source, "not all of its parts are on this machine yet")


def _has_variant(folder: Path, variant: str) -> bool:
    """Return whether diffusers would take a part's variant: model.fp16.safetensors."""
    words = (path.name.split(".")[1:2] for path in folder.iterdir())
    return any(word and word[0].startswith(variant) for word in words)
