"""Networks of timm by name: `timm:resnet50_clip.openai` is the ResNet-50 of CLIP.

Written against timm 1.0. Weights come from the hub as safetensors only; they are downloaded here,
not by timm, which would load pickled files too.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from torch import nn

from gendataagent.config import ClassifierConfig
from gendataagent.config.training import TIMM_PREFIX
from gendataagent.core.completeness import check_finite, is_integer
from gendataagent.core.errors import ModelError
from gendataagent.core.hub import ModelSource, advice, cached_file, check, load
from gendataagent.core.suggestions import closest
from gendataagent.core.text import reason_of
from gendataagent.core.weight_files import fault_of_weights, stored_in
from gendataagent.data.imagenet_classes import imagenet_names
from gendataagent.data.labels import same_classes
from gendataagent.training.backbones.head import new_head_note
from gendataagent.training.backbones.preprocessing import Backbone

_INSTALL = "pip install 'gendataagent[timm]'"
_OPEN_CLIP = "open_clip_pytorch_model.bin"  # the one file whose safetensors has another name


def check_timm_model(name: str, config: ClassifierConfig) -> None:
    """Raise `ModelError` if timm, the name in it, or its weights are missing or incomplete.

    Args:
        name: with the prefix.
    """
    timm = _timm(name)
    facts = _facts(timm, name)
    if config.pretrained:
        source = _source(name, facts, config)
        check(source)
        file = cached_file(source, source.index_file)
        if file is not None:
            _pretrained(timm, name, facts, config, source, file)


def timm_backbone(name: str, config: ClassifierConfig, class_names: Sequence[str]) -> Backbone:
    """Return a network of timm with a head for the classes; size and colours from timm.

    Raises:
        ModelError: timm or the weights are missing or incomplete, or timm has no such name.
    """
    timm = _timm(name)
    facts = _facts(timm, name)
    own_names, fits = None, True
    try:
        if config.pretrained:
            source = _source(name, facts, config)
            module = _pretrained(timm, name, facts, config, source, _fetch(source))
            own_names = _class_names(facts)
            fits = same_classes(class_names, own_names) is not None
            if facts.num_classes != len(class_names) or not fits:
                module.reset_classifier(len(class_names))
        else:
            module = timm.create_model(
                name.removeprefix(TIMM_PREFIX),
                pretrained=False,
                num_classes=len(class_names),
                **_sized(facts, config),
            )
    except ModelError:
        raise
    except Exception as error:  # networks raise anything for options that they refuse
        raise ModelError(advice(_described(name, config), error)) from error
    return Backbone(
        module=cast(nn.Module, module),
        size_px=config.size_px or facts.input_size[-1],
        mean=tuple(facts.mean),
        std=tuple(facts.std),
        own_names=own_names if fits else None,
        note="" if own_names is None or fits else new_head_note(own_names, class_names),
    )


def _sized(facts: Any, config: ClassifierConfig) -> dict[str, int]:
    return {"img_size": config.size_px} if config.size_px and facts.fixed_input_size else {}


def _pretrained(
    timm: Any, name: str, facts: Any, config: ClassifierConfig, source: ModelSource, file: Path
) -> Any:
    """Return a network with the weights of a file, and the head that they have.

    Raises:
        ModelError: the file is damaged, or of another network; names file and tensor.
    """
    start = f"{source.setting}: cannot load {file} as {name}"
    again = f"download it again: hf download {source.name}. {source.instead}"
    if fault := fault_of_weights(file):
        raise ModelError(f"{start}: the file {fault.rpartition(';')[0]}; {again}")
    try:
        # As many outputs as the weights have: with another number timm ignores any missing weight.
        module = timm.create_model(
            name.removeprefix(TIMM_PREFIX),
            pretrained=True,
            num_classes=facts.num_classes,
            # custom: of files in the format of JAX, which the file is not
            pretrained_cfg_overlay={"file": str(file), "custom_load": False},
            **_sized(facts, config),
        )
    except Exception as error:  # networks raise anything for options and weights they refuse
        raise ModelError(
            f"{start}: {reason_of(error)}. If it is damaged or of another network, {again}"
        ) from error
    if packed := [key for key, tensor in stored_in(file).items() if is_integer(tensor)]:
        wanted = {key for key, tensor in module.state_dict().items() if tensor.is_floating_point()}
        if wrong := sorted(wanted.intersection(packed)):
            raise ModelError(f"{start}: {wrong[0]} holds integers instead of fractions; {again}")
    check_finite(f"{source.setting}: {file}", module)
    return module


def _class_names(facts: Any) -> tuple[str, ...]:
    """Return the names of a network's outputs; timm sorts ImageNet's classes by WordNet id."""
    names = tuple(str(name) for name in getattr(facts, "label_names", None) or ())
    if names and len(names) == facts.num_classes:
        return names
    imagenet = tuple(imagenet_names())
    if facts.num_classes == len(imagenet):
        return imagenet
    return tuple(f"output {number}" for number in range(facts.num_classes))


def as_timm_wrapper(module: Any, class_names: Sequence[str], *, size_px: int) -> Any:
    """Return a network of timm inside the class that transformers loads such networks with."""
    from transformers import TimmWrapperConfig, TimmWrapperForImageClassification

    facts = module.pretrained_cfg
    config = TimmWrapperConfig(
        architecture=facts["architecture"],
        model_args={"img_size": size_px} if facts.get("fixed_input_size") else None,
        id2label=dict(enumerate(class_names)),
        label2id={name: label for label, name in enumerate(class_names)},
    )
    wrapper = TimmWrapperForImageClassification(config)
    wrapper.timm_model = module
    return wrapper


def _timm(name: str) -> Any:
    """Return the library; raise `ModelError` with the install command if it cannot be imported."""
    try:
        return importlib.import_module("timm")
    except ModuleNotFoundError as error:
        raise ModelError(
            f"classifier.model: {name} needs {error.name or 'timm'}, which is not installed: "
            f"{_INSTALL}"
        ) from error
    except (ImportError, RuntimeError) as error:  # a torchvision built for another torch
        reason = reason_of(error, 200)
        raise ModelError(
            f"classifier.model: {name} needs timm, which is installed but cannot be imported "
            f"({reason}). Usually torchvision is not built for this version of torch: install both "
            f"from the same index, then {_INSTALL}"
        ) from error


def _facts(timm: Any, name: str) -> Any:
    """Return timm's `PretrainedCfg` of a name; raise `ModelError` for an unknown name."""
    wanted = name.removeprefix(TIMM_PREFIX)
    known = timm.is_model(wanted.partition(".")[0])
    try:
        facts = timm.get_pretrained_cfg(wanted) if known else None
    except RuntimeError:  # the network exists, but not the weights after the dot
        facts = None
    if facts is None:
        close = closest(wanted, timm.list_models(pretrained=True), at_most=5)
        hint = f"; similar names: {', '.join(close)}" if close else ""
        raise ModelError(
            f"classifier.model: timm {timm.__version__} has no {wanted}{hint}. All names: "
            "https://huggingface.co/timm"
        )
    return facts


def _described(
    name: str, config: ClassifierConfig, *, revision: str = "", file: str = ""
) -> ModelSource:
    return ModelSource(
        setting="classifier.model",
        kind="a network of timm",
        name=name,
        index_file=file,
        revision=config.revision or revision,
        instead="Or start from random weights: classifier.pretrained=false.",
    )


def _source(name: str, facts: Any, config: ClassifierConfig) -> ModelSource:
    """Return where the safetensors weights are; raise `ModelError` if timm names none."""
    hub_id, _, revision = (facts.hf_hub_id or "").partition("@")
    if not hub_id:
        raise ModelError(
            f"classifier.model: timm names no weights of {name} on the hub, and weights from "
            "elsewhere are not loaded: choose another name, or set classifier.pretrained=false"
        )
    file = facts.hf_hub_filename or "model.safetensors"
    if file == _OPEN_CLIP:
        file = "open_clip_model.safetensors"
    file = file.removesuffix(".bin").removesuffix(".safetensors") + ".safetensors"
    return _described(hub_id, config, revision=revision, file=file)


def _fetch(source: ModelSource) -> Path:
    """Return the path of the weights, downloaded if they are not on this machine."""
    from huggingface_hub import hf_hub_download

    def fetch(place: str, *, trust_remote_code: bool, **options: Any) -> Path:
        return Path(hf_hub_download(place, source.index_file, **options))

    return load(source, fetch)
