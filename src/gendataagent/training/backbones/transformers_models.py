"""Image classifiers of transformers, and its CLIP and SigLIP image encoders with a new head."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import nn

from gendataagent.config import ClassifierConfig
from gendataagent.core.completeness import Lacks, check_auto, check_files, check_finite
from gendataagent.core.errors import ModelError
from gendataagent.core.hub import ModelSource, advice, check, load, looks_like_path
from gendataagent.core.model_settings import fault_of_settings
from gendataagent.data.numbered_names import names_of_outputs
from gendataagent.training.backbones.head import heads_of
from gendataagent.training.backbones.preprocessing import Backbone, Preprocessing, bgr_to_rgb
from gendataagent.training.backbones.tiny_resnet import TINY_RESNET

USUAL_PX = 224  # [S]
PREPROCESSOR_FILE = "preprocessor_config.json"
TORCH_MOMENTUM = 0.1  # torch's default: the share of the newest batch in the running statistics
ENCODERS = {
    "clip": "CLIPVisionModel",
    "clip_vision_model": "CLIPVisionModel",
    "siglip": "SiglipVisionModel",
    "siglip_vision_model": "SiglipVisionModel",
}


def transformers_source(
    name: str, config: ClassifierConfig, *, trust_remote_code: bool
) -> ModelSource:
    """Return where a classifier of transformers comes from."""
    return ModelSource(
        setting="classifier.model",
        kind="an image classifier or CLIP of transformers",
        name=name,
        revision=config.revision,
        trust_remote_code=trust_remote_code,
        instead=f"Without a network name a folder, or set classifier.model={TINY_RESNET}.",
    )


def check_transformers_model(
    name: str, config: ClassifierConfig, *, trust_remote_code: bool
) -> None:
    """Raise `ModelError` for what can be known to be wrong before loading weights."""
    source = transformers_source(name, config, trust_remote_code=trust_remote_code)
    if not config.pretrained and source.folder is not None:
        _read_config(source, config, ())
        return
    check(source)
    if config.pretrained:
        _check_weights(source, config)


def _check_weights(source: ModelSource, config: ClassifierConfig) -> None:
    """Raise `ModelError` if the files lack tensors other than a head's, by their headers."""
    import transformers

    model_config = _read_config(source, config, None)
    if _is_encoder(model_config):
        cls = getattr(transformers, ENCODERS[model_config.model_type])
        check_files(source, cls, _vision_of(model_config))
    else:
        auto = transformers.AutoModelForImageClassification
        check_auto(source, auto, model_config, needed=_without_absent_heads)


def transformers_backbone(
    name: str, config: ClassifierConfig, class_names: Sequence[str], *, trust_remote_code: bool
) -> Backbone:
    """Return a network on disk or on the hub, with a head for the classes.

    A head with as many outputs is loaded as it is (`head.fit_head` makes it fit the classes); for
    another, and where there is none, one is drawn from torch's global generator.

    Raises:
        ModelError: it cannot be found or loaded, or weights other than the head's are missing.
    """
    source = transformers_source(name, config, trust_remote_code=trust_remote_code)
    if source.folder is None and looks_like_path(name):
        raise ModelError(f"classifier.model: there is no folder {name}")
    model_config = _read_config(source, config, class_names)
    try:
        images = Preprocessing.from_settings(_read_preprocessor(source), model_config.model_type)
    except ValueError as error:
        raise ModelError(
            f"{source.setting}: {PREPROCESSOR_FILE} of {source.name} cannot be used: {error}; "
            "download the complete model again"
        ) from error
    own_px = _side_of(getattr(_vision_of(model_config), "image_size", None)) or USUAL_PX
    own_names, note = None, ""
    if _is_encoder(model_config):
        encoder = _encoder(source, config.pretrained, model_config)
        module = _with_head(encoder, _vision_of(model_config), class_names)
    else:
        module, lacks = _classifier(source, config.pretrained, model_config)
        if config.pretrained:
            own_names = _class_names(_read_config(source, config, None))
            if len(own_names) == len(class_names) and lacks:
                if damaged := _without_absent_heads(module, lacks):
                    raise ModelError(f"{source.setting}: {damaged.sentence(_weights_of(source))}")
                own_names, note = None, "The output layer of classifier.model is new: it has none."
    _fix_momentum(module)
    if images.bgr and config.pretrained:
        bgr_to_rgb(module)
    # The preprocessor's size first: DINOv2 was last trained at 518 px, but is used at 224.
    size_px = config.size_px or images.size_px or own_px
    return Backbone(
        module=module,
        size_px=size_px,
        mean=images.mean,
        std=images.std,
        own_names=own_names,
        note=note,
    )


def quiet() -> None:
    """Silence transformers' loading reports: a new head fills ten lines, what is missing raises."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def labels_of(class_names: Sequence[str]) -> dict[str, Any]:
    """Return the class names as a configuration of transformers has them."""
    return {
        "id2label": dict(enumerate(class_names)),
        "label2id": {name: label for label, name in enumerate(class_names)},
    }


def output_names(model_config: Any) -> tuple[str, ...]:
    """Return the names of a classifier's outputs, in their order.

    Raises:
        ValueError: id2label does not name each output once, or label2id contradicts it.
    """
    return tuple(names_of_outputs(model_config.id2label, getattr(model_config, "label2id", None)))


def _class_names(model_config: Any) -> tuple[str, ...]:
    """Return `output_names`; "output 0"... where they are unclear."""
    try:
        return output_names(model_config)
    except (AttributeError, TypeError, ValueError):
        return tuple(f"output {number}" for number in range(len(model_config.id2label)))


def _read_config(
    source: ModelSource, config: ClassifierConfig, class_names: Sequence[str] | None
) -> Any:
    """Return the configuration with these class names, or with its own for None."""
    from transformers import AutoConfig

    quiet()
    labels = {} if class_names is None else labels_of(class_names)

    def read(place: str, **options: Any) -> Any:
        return AutoConfig.from_pretrained(place, **options, **labels)

    if source.folder is None or config.pretrained:
        return load(source, read)
    if fault := fault_of_settings(
        source.folder / source.index_file, trust_remote_code=source.trust_remote_code
    ):
        raise ModelError(f"{source.setting}: {source.index_file} of {source.folder} {fault}")
    try:  # without pretrained weights; `load` would require them
        return read(
            str(source.folder), local_files_only=True, trust_remote_code=source.trust_remote_code
        )
    except Exception as error:  # the libraries raise many kinds for a bad folder
        raise ModelError(advice(source, error)) from error


def _read_preprocessor(source: ModelSource) -> Mapping[str, Any] | None:
    """Return the preprocessor's settings, None if the model has none or it is not reachable."""
    from transformers.image_processing_base import ImageProcessingMixin

    places: list[dict[str, Any]] = [{"local_files_only": True}]
    if source.folder is None:
        revision = source.revision or None
        places = [{"local_files_only": local, "revision": revision} for local in (True, False)]
    for options in places:
        try:
            settings, _ = ImageProcessingMixin.get_image_processor_dict(
                str(source.folder or source.name), **options
            )
        except OSError:
            continue
        return cast(Mapping[str, Any], settings)
    return None


def _is_encoder(model_config: Any) -> bool:
    """Return whether it is an image encoder without a classification head."""
    if model_config.model_type not in ENCODERS:
        return False
    vision = _vision_of(model_config)
    made_for = getattr(model_config, "architectures", None) or ()
    return getattr(vision, "vision_use_head", True) and not any(
        name.endswith("ForImageClassification") for name in made_for
    )


def _vision_of(model_config: Any) -> Any:
    """Return the part of a configuration that is about images."""
    return getattr(model_config, "vision_config", model_config)


def _encoder(source: ModelSource, pretrained: bool, model_config: Any) -> nn.Module:
    """Return the image encoder alone of a CLIP or SigLIP."""
    import transformers

    cls = getattr(transformers, ENCODERS[model_config.model_type])
    vision = _vision_of(model_config)
    return _load_weights(source, cls, vision)[0] if pretrained else cast(nn.Module, cls(vision))


def _with_head(encoder: nn.Module, vision: Any, class_names: Sequence[str]) -> nn.Module:
    from gendataagent.training.backbones.pooled_encoder import class_for

    vision.update(labels_of(class_names))
    with torch.device("meta"):  # an empty shell: the encoder is there already
        module: Any = class_for(vision)(vision)
    module.encoder = encoder
    module.head = nn.Linear(vision.hidden_size, len(class_names))
    return cast(nn.Module, module)


def _classifier(
    source: ModelSource, pretrained: bool, model_config: Any
) -> tuple[nn.Module, Lacks | None]:
    """Return a network, and what its files lack of the head."""
    from transformers import AutoModelForImageClassification

    if pretrained:
        return _load_weights(source, AutoModelForImageClassification, model_config)
    try:
        module = AutoModelForImageClassification.from_config(
            model_config, dtype=torch.float32, trust_remote_code=source.trust_remote_code
        )
    except Exception as error:  # a wrong configuration can raise anything
        raise ModelError(advice(source, error)) from error
    return cast(nn.Module, module), None


def _load_weights(
    source: ModelSource, cls: Any, model_config: Any
) -> tuple[nn.Module, Lacks | None]:
    """Return a network with the weights of the source, and what these lack of the head."""

    def read(place: str, **options: Any) -> tuple[nn.Module, Lacks | None]:
        module, loading = cls.from_pretrained(
            place,
            config=model_config,
            ignore_mismatched_sizes=True,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
            **options,
        )
        found = Lacks.of_report(module, loading)
        if lacks := found.but_for(_of_heads(module)):
            raise ModelError(f"{source.setting}: {lacks.sentence(_weights_of(source))}")
        check_finite(f"{source.setting}: {source.name}", module)
        return cast(nn.Module, module), found or None

    return load(source, read)


def _of_heads(module: nn.Module) -> Callable[[str], bool]:
    """Return a function that says whether a tensor belongs to a classification head."""
    heads = heads_of(module, getattr(getattr(module, "config", None), "num_labels", 0))
    allowed = tuple(f"{head}." for head in heads)
    return lambda name: name.startswith(allowed)


def _without_absent_heads(module: nn.Module, lacks: Lacks) -> Lacks:
    """Return what is lacking besides the tensors of heads that are missing as a whole."""
    heads = heads_of(module, getattr(getattr(module, "config", None), "num_labels", 0))
    parts = ({n for n in module.state_dict() if n.startswith(f"{head}.")} for head in heads)
    absent = {name for part in parts if part.issubset(lacks.missing) for name in part}
    return replace(lacks, missing=tuple(name for name in lacks.missing if name not in absent))


def _weights_of(source: ModelSource) -> str:
    return f"the weights of {source.name}"


def _fix_momentum(module: nn.Module) -> None:
    """Give BatchNorm torch's momentum where a port copied TensorFlow's number.

    transformers builds MobileNet and EfficientNet with 0.997 or 0.99: in TensorFlow the share that
    is kept, in torch that of the newest batch. After training the network would be evaluated with
    the statistics of its last, often small, batch.
    """
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d) and (part.momentum or 0) > 0.5:
            part.momentum = TORCH_MOMENTUM


def _side_of(size: Any) -> int | None:
    """Return the side in px of a config's image size, None if it is not set or not square."""
    if isinstance(size, list | tuple) and len(set(size)) == 1:
        size = size[0]
    return size if isinstance(size, int) and size > 0 else None
