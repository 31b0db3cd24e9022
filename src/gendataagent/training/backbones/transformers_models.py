"""Image classifiers of transformers, and its CLIP and SigLIP image encoders with a new head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from gendataagent.config import ClassifierConfig
from gendataagent.core.errors import ModelError
from gendataagent.core.hub import ModelSource, advice, check, load, looks_like_path
from gendataagent.training.backbones.preprocessing import Backbone, Preprocessing, blue_first
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


class EncoderWithHead(nn.Module):
    """An image encoder that was trained beside a text encoder, and a new linear head.

    The head sees the pooled output that its training compared with texts, before the projection
    into their common space, as the CLIP paper's linear probes do (Radford et al. 2021, appendix A);
    transformers' own CLIPForImageClassification averages patch tokens, which that training never
    looked at. At other sizes than the encoder's own its position embeddings are interpolated.
    """

    def __init__(self, encoder: nn.Module, *, hidden: int, own_px: int, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.own_px = own_px
        self.head = nn.Linear(hidden, classes)

    def forward(self, images_B3SS: Tensor) -> Tensor:
        """Return logits [B, C]."""
        output = self.encoder(
            images_B3SS, interpolate_pos_encoding=images_B3SS.shape[-1] != self.own_px
        )
        return cast(Tensor, self.head(output.pooler_output))


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
    """Raise `ModelError` for what can be known to be wrong before the weights are loaded."""
    source = transformers_source(name, config, trust_remote_code=trust_remote_code)
    if source.folder is None or config.pretrained:
        check(source)
    else:
        _read_config(source, config, ())


def transformers_backbone(
    name: str, config: ClassifierConfig, class_names: Sequence[str], *, trust_remote_code: bool
) -> Backbone:
    """Return a network on disk or on the hub, with a head for the classes.

    A head of as many classes is kept, another is drawn anew from torch's global generator.

    Raises:
        ModelError: it cannot be found or loaded, or weights besides the head's are missing.
    """
    source = transformers_source(name, config, trust_remote_code=trust_remote_code)
    if source.folder is None and looks_like_path(name):
        raise ModelError(f"classifier.model: there is no folder {name}")
    model_config = _read_config(source, config, class_names)
    images = Preprocessing.from_settings(_read_preprocessor(source), model_config.model_type)
    own_px = _side_of(getattr(_vision_of(model_config), "image_size", None)) or USUAL_PX
    if _is_encoder(model_config):
        encoder = _encoder(source, config.pretrained, model_config)
        hidden = _vision_of(model_config).hidden_size
        module: nn.Module = EncoderWithHead(
            encoder, hidden=hidden, own_px=own_px, classes=len(class_names)
        )
    else:
        module = _classifier(source, config.pretrained, model_config)
    _mend_momentum(module)
    if images.bgr and config.pretrained:
        blue_first(module)
    # The preprocessor first: DINOv2 was last trained at 518 px, but is used at 224.
    size_px = config.size_px or images.size_px or own_px
    return Backbone(module=module, size_px=size_px, mean=images.mean, std=images.std)


def _read_config(source: ModelSource, config: ClassifierConfig, class_names: Sequence[str]) -> Any:
    from transformers import AutoConfig
    from transformers.utils import logging

    # The new head is reported on over ten lines; what is really missing is an error of ours.
    logging.set_verbosity_error()
    logging.disable_progress_bar()

    labels: dict[str, Any] = {  # their number follows from it
        "id2label": dict(enumerate(class_names)),
        "label2id": {name: label for label, name in enumerate(class_names)},
    }

    def read(place: str, **options: Any) -> Any:
        return AutoConfig.from_pretrained(place, **options, **labels)

    if source.folder is None or config.pretrained:
        return load(source, read)
    try:  # from scratch a folder needs no weights, which `load` would ask for
        return read(
            str(source.folder), local_files_only=True, trust_remote_code=source.trust_remote_code
        )
    except Exception as error:  # the libraries below raise a dozen kinds for a bad folder
        raise ModelError(advice(source, error)) from error


def _read_preprocessor(source: ModelSource) -> Mapping[str, Any] | None:
    """Return the preprocessor's settings; None if the model has none, or none can be had."""
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
    """Return whether it is an image encoder without a classifier's head of its own."""
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
    return _load_weights(source, cls, vision) if pretrained else cast(nn.Module, cls(vision))


def _classifier(source: ModelSource, pretrained: bool, model_config: Any) -> nn.Module:
    from transformers import AutoModelForImageClassification

    if pretrained:
        return _load_weights(source, AutoModelForImageClassification, model_config)
    try:
        module = AutoModelForImageClassification.from_config(
            model_config, dtype=torch.float32, trust_remote_code=source.trust_remote_code
        )
    except Exception as error:  # a configuration can be wrong in any way
        raise ModelError(advice(source, error)) from error
    return cast(nn.Module, module)


def _load_weights(source: ModelSource, cls: Any, model_config: Any) -> nn.Module:
    """Return a network with the weights of the source; only its head may be missing there."""

    def read(place: str, **options: Any) -> nn.Module:
        module, loading = cls.from_pretrained(
            place,
            config=model_config,
            ignore_mismatched_sizes=True,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
            **options,
        )
        _check_loaded(source.name, module, loading["missing_keys"])
        return cast(nn.Module, module)

    return load(source, read)


def _check_loaded(name: str, module: nn.Module, missing_keys: Sequence[str]) -> None:
    """Raise `ModelError` if other weights than the heads' were not in the files."""
    parameters = dict(module.named_parameters())
    linears = {key: part for key, part in module.named_modules() if isinstance(part, nn.Linear)}
    classes = getattr(getattr(module, "config", None), "num_labels", None)
    # Some have a second head (DeiT's for distillation). Parts of the backbone are numbered.
    heads = [
        key
        for key, part in linears.items()
        if part.out_features == classes and not any(word.isdigit() for word in key.split("."))
    ]
    heads += list(linears)[-1:] if hasattr(module, "num_labels") else []
    allowed = tuple(f"{head}." for head in heads)
    missing = [key for key in missing_keys if key in parameters and not key.startswith(allowed)]
    if missing:
        raise ModelError(
            f"classifier.model: the weights of {name} lack {len(missing)} of {len(parameters)} "
            f"parameters ({', '.join(sorted(missing)[:3])}...); it is damaged or no "
            f"{type(module).__name__}"
        )


def _mend_momentum(module: nn.Module) -> None:
    """Give BatchNorm torch's momentum where a port took over TensorFlow's number.

    transformers builds MobileNet and EfficientNet with 0.997 or 0.99. TensorFlow means the share
    that is kept; torch takes it as that of the newest batch, so that after training the network
    would be measured with the statistics of its very last, often small, batch.
    """
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d) and (part.momentum or 0) > 0.5:
            part.momentum = TORCH_MOMENTUM


def _side_of(size: Any) -> int | None:
    """Return the side in px of a config's image size, None where it is none or not square."""
    if isinstance(size, list | tuple) and len(set(size)) == 1:
        size = size[0]
    return size if isinstance(size, int) and size > 0 else None
