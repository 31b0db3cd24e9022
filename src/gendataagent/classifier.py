"""The classifier that is trained: a module, its classes and the pictures it wants.

Letters in tensor names: N pictures, B pictures of a batch, C classes, D features, S side in px.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from gendataagent.config import AUTO, ClassifierConfig
from gendataagent.errors import DataError, ModelError, ScoreError
from gendataagent.pixels import Pixels

TINY_RESNET = "tiny-resnet"
TINY_RESNET_PX = 32
TINY_RESNET_STEM = 32
TINY_RESNET_WIDTHS = (48, 96, 192)
SMALL_PICTURES_PX = 64  # "auto" takes tiny-resnet up to this size
RESNET_50 = "microsoft/resnet-50"  # [S]
PRETRAINED_PX = 224  # [S]
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_IDS_NAMED = 5


class Classifier:
    """A module with its class names, picture size and colour normalisation.

    Args:
        module: pictures [B, 3, S, S] -> logits [B, C], or a transformers output with `.logits`.
        mean, std: per-channel normalisation of pictures in [0, 1]; not part of the module.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        class_names: Sequence[str],
        size_px: int,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        device: torch.device | str = "cpu",
    ) -> None:
        self.device = torch.device(device)
        self.module = module.to(self.device)
        self.class_names = tuple(class_names)
        self.size_px = size_px
        self.mean, self.std = tuple(mean), tuple(std)
        self._mean_131 = torch.tensor(self.mean, device=self.device)[:, None, None]
        self._std_131 = torch.tensor(self.std, device=self.device)[:, None, None]

    @classmethod
    def wrap(
        cls,
        module: nn.Module,
        *,
        class_names: Sequence[str],
        size_px: int,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> Self:
        """Return a classifier around a module from a training loop of your own.

        The module stays where it is and is shared, not copied: training it trains this.
        """
        parameter = next(module.parameters(), None)
        device = parameter.device if parameter is not None else torch.device("cpu")
        return cls(
            module, class_names=class_names, size_px=size_px, mean=mean, std=std, device=device
        )

    def normalise(self, images_B3SS: Tensor) -> Tensor:
        """Return what the module sees of pictures in [0, 1]: (picture - mean) / std."""
        return (images_B3SS - self._mean_131) / self._std_131

    def logits(self, images_B3SS: Tensor) -> Tensor:
        """Return the logits [B, C] of float pictures in [0, 1] on the classifier's device."""
        return self.logits_of_normalised(self.normalise(images_B3SS))

    def logits_of_normalised(
        self, inputs_B3SS: Tensor, *, weights: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """Return the logits [B, C] of normalised pictures.

        Args:
            weights: a whole state dict to use instead of the module's own, which stay untouched.

        Raises:
            ModelError: the module's output is not [B, C] for this classifier's C classes.
        """
        if weights is None:
            output = self.module(inputs_B3SS)
        else:
            output = torch.func.functional_call(self.module, dict(weights), (inputs_B3SS,))
        logits_BC = output if isinstance(output, Tensor) else output.logits
        expected = (len(inputs_B3SS), len(self.class_names))
        if tuple(logits_BC.shape) != expected:
            raise ModelError(
                f"the classifier's module gave logits of shape {tuple(logits_BC.shape)}, expected "
                f"{expected}: one per picture and class ({len(self.class_names)} class names)"
            )
        return logits_BC

    @contextlib.contextmanager
    def inference(self) -> Iterator[nn.Module]:
        """Put the module in eval mode with its parameters frozen; restore both as found."""
        modes = [(module, module.training) for module in self.module.modules()]
        frozen = [(parameter, parameter.requires_grad) for parameter in self.module.parameters()]
        try:
            self.module.eval().requires_grad_(False)
            yield self.module
        finally:
            for module, training in modes:
                module.training = training
            for parameter, requires_grad in frozen:
                parameter.requires_grad_(requires_grad)

    def predict_logits(self, pixels: Pixels, batch_size: int = 256) -> Tensor:
        """Return the logits [N, C] of all pictures (their centre crops), float32 on the CPU.

        Raises:
            ScoreError: logits that are not finite, with the ids of the pictures.
        """
        self.check_labels(pixels)
        parts = [torch.empty((0, len(self.class_names)))]
        with self.inference(), torch.no_grad():
            for images_B3SS in self._batches(pixels, batch_size):
                parts.append(self.logits(images_B3SS).float().cpu())
        logits_NC = torch.cat(parts)
        raise_if_not_finite(logits_NC.isfinite().all(dim=1), pixels.ids, "the classifier's output")
        return logits_NC

    def predict_probabilities(self, pixels: Pixels, batch_size: int = 256) -> Tensor:
        """Return softmax probabilities [N, C], float32 on the CPU; raise like `predict_logits`."""
        return self.predict_logits(pixels, batch_size).softmax(dim=1)

    def features(self, pixels: Pixels, batch_size: int = 256) -> Tensor:
        """Return what the last linear layer sees of each picture, [N, D], float32 on the CPU.

        Raises:
            ModelError: the module has no linear layer.
            ScoreError: features that are not finite, with the ids of the pictures.
        """
        seen: list[Tensor] = []

        def keep(_: nn.Module, inputs: tuple[Any, ...]) -> None:
            seen.append(inputs[0].flatten(start_dim=1).float().cpu())

        hook = self.head().register_forward_pre_hook(keep)
        try:
            with self.inference(), torch.no_grad():
                for images_B3SS in self._batches(pixels, batch_size):
                    self.logits(images_B3SS)
        finally:
            hook.remove()
        features_ND = torch.cat(seen) if seen else torch.empty((0, self.head().in_features))
        raise_if_not_finite(features_ND.isfinite().all(dim=1), pixels.ids, "the features")
        return features_ND

    def head(self) -> nn.Linear:
        """Return the last linear layer; raise `ModelError` if there is none."""
        linears = [module for module in self.module.modules() if isinstance(module, nn.Linear)]
        if not linears:
            raise ModelError(
                f"{type(self.module).__name__} has no linear layer to take features in front of"
            )
        return linears[-1]

    def check_labels(self, pixels: Pixels) -> None:
        """Raise `DataError` if a label stands for none of the class names."""
        wrong = (pixels.labels < 0) | (pixels.labels >= len(self.class_names))
        if wrong.any():
            first = int(wrong.nonzero()[0])
            raise DataError(
                f"picture {pixels.ids[first]} has label {int(pixels.labels[first])}, but there are "
                f"{len(self.class_names)} classes (labels 0 to {len(self.class_names) - 1})"
            )

    def _batches(self, pixels: Pixels, batch_size: int) -> Iterator[Tensor]:
        indices = torch.split(torch.arange(len(pixels)), batch_size) if len(pixels) else ()
        for _, images_B3SS in pixels.stream(indices, crop_px=self.size_px):
            yield images_B3SS.to(self.device).float() / 255


def raise_if_not_finite(finite_N: Tensor, ids: Sequence[str], what: str) -> None:
    """Raise `ScoreError` naming the pictures where `finite_N` is False."""
    if finite_N.all():
        return
    bad = [ids[index] for index in (~finite_N).nonzero().flatten().tolist()]
    more = f" and {len(bad) - _IDS_NAMED} more" if len(bad) > _IDS_NAMED else ""
    raise ScoreError(
        f"{what} is not a finite number for {len(bad)} of {len(ids)} pictures "
        f"({', '.join(bad[:_IDS_NAMED])}{more}), so they cannot be ranked. Usually the training "
        "has diverged: lower training.learning_rate, or set training.gradient_clip=1"
    )


def build_classifier(
    config: ClassifierConfig,
    class_names: Sequence[str],
    *,
    seed: int,
    device: torch.device | str = "cpu",
    typical_side_px: int = TINY_RESNET_PX,
) -> Classifier:
    """Return a new classifier; its random weights depend on `seed` alone.

    Args:
        typical_side_px: usual shorter side of the pictures; decides what model "auto" stands for.

    Raises:
        ModelError: the model cannot be found or loaded, or does not fit the pictures' size.
    """
    name = choose_model(config.model, typical_side_px=typical_side_px, device=device)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # the CPU's alone; torch.manual_seed does all
        if name == TINY_RESNET:
            module = _tiny_resnet(class_names)
            size_px = config.size_px or TINY_RESNET_PX
            mean: Sequence[float] = IMAGENET_MEAN
            std: Sequence[float] = IMAGENET_STD
        else:
            module, size_px, mean, std = _from_transformers(name, config, class_names)
    classifier = Classifier(
        module, class_names=class_names, size_px=size_px, mean=mean, std=std, device=device
    )
    try:
        with classifier.inference(), torch.no_grad():
            classifier.logits(torch.zeros((1, 3, size_px, size_px), device=device))
    except (RuntimeError, ValueError) as error:
        raise ModelError(
            f"{name} cannot take pictures of {size_px} px: {error}. Set classifier.size_px to the "
            "size it was made for"
        ) from error
    return classifier


def choose_model(name: str, *, typical_side_px: int, device: torch.device | str) -> str:
    """Return the model that `classifier.model` stands for, with "auto" decided."""
    if name != AUTO:
        return name
    small = typical_side_px <= SMALL_PICTURES_PX or torch.device(device).type == "cpu"
    return TINY_RESNET if small else RESNET_50


def _tiny_resnet(class_names: Sequence[str]) -> nn.Module:
    """Return a small ResNet (0.7 M parameters) for 32 px: stem 3x3, stride 1, no pooling.

    Most of the work of such networks is at full size; this one leaves it after the stem, and so
    trains twice as fast on a CPU as one of like accuracy on few pictures that stays.
    """
    from transformers import ResNetConfig, ResNetForImageClassification

    config = ResNetConfig(
        embedding_size=TINY_RESNET_STEM,
        hidden_sizes=list(TINY_RESNET_WIDTHS),
        depths=[1] * len(TINY_RESNET_WIDTHS),
        layer_type="basic",
        downsample_in_first_stage=True,
        **_label_names(class_names),
    )
    module = ResNetForImageClassification(config)
    stem = module.resnet.embedder
    wide = stem.embedder.convolution
    stem.embedder.convolution = nn.Conv2d(
        wide.in_channels, wide.out_channels, kernel_size=3, padding=1, bias=False
    )
    nn.init.kaiming_normal_(stem.embedder.convolution.weight, mode="fan_out", nonlinearity="relu")
    stem.pooler = nn.Identity()
    # a third faster on a CPU, and no slower on a GPU
    return cast(nn.Module, module.to(memory_format=torch.channels_last))


def _label_names(class_names: Sequence[str]) -> dict[str, Any]:
    return {
        "num_labels": len(class_names),
        "id2label": dict(enumerate(class_names)),
        "label2id": {name: label for label, name in enumerate(class_names)},
    }


def _from_transformers(
    name: str, config: ClassifierConfig, class_names: Sequence[str]
) -> tuple[nn.Module, int, Sequence[float], Sequence[float]]:
    """Return module, picture size, mean and std of a model on disk or on the hub."""
    from transformers import AutoConfig, AutoModelForImageClassification

    local = Path(name).expanduser().is_dir()
    if not local and _looks_like_path(name):
        raise ModelError(
            f"there is no folder {name}; classifier.model must be {TINY_RESNET}, a folder made by "
            "save_pretrained, or a hub id such as microsoft/resnet-50"
        )
    source = str(Path(name).expanduser()) if local else name
    where = {"local_files_only": local, "revision": config.revision or "main"}
    try:
        model_config = AutoConfig.from_pretrained(source, **where, **_label_names(class_names))
        if config.pretrained:
            module, loading = AutoModelForImageClassification.from_pretrained(
                source,
                config=model_config,
                ignore_mismatched_sizes=True,
                use_safetensors=True,
                dtype=torch.float32,
                output_loading_info=True,
                **where,
            )
            _check_loaded(name, module, loading["missing_keys"])
        else:
            module = AutoModelForImageClassification.from_config(model_config)
    except ModelError:
        raise
    except Exception as error:  # the libraries below raise a dozen kinds for a bad folder
        raise ModelError(_loading_advice(name, local, error)) from error
    # A vision transformer only takes the size its position embeddings were made for.
    made_for = getattr(model_config, "image_size", None)
    size_px = config.size_px or (made_for if isinstance(made_for, int) else PRETRAINED_PX)
    return module, size_px, *_colour_statistics(source, where)


def _looks_like_path(name: str) -> bool:
    return (
        name.startswith((".", "~", os.sep)) or "\\" in name or name.count("/") > 1
        or Path(name).exists()
    )  # fmt: skip


def _check_loaded(name: str, module: nn.Module, missing_keys: Sequence[str]) -> None:
    """Raise `ModelError` if other weights than the head's were not in the files."""
    parameters = dict(module.named_parameters())
    linears = [key for key, part in module.named_modules() if isinstance(part, nn.Linear)]
    head = f"{linears[-1]}." if linears else ""
    missing = [key for key in missing_keys if key in parameters and not key.startswith(head)]
    if missing:
        raise ModelError(
            f"the weights of {name} lack {len(missing)} of {len(parameters)} parameters "
            f"({', '.join(sorted(missing)[:3])}...); it is damaged or no {type(module).__name__}"
        )


def _loading_advice(name: str, local: bool, error: Exception) -> str:
    reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    if local:
        return (
            f"cannot load an image classifier from the folder {name} ({reason}). It must hold "
            "config.json and whole model.safetensors files as save_pretrained writes them; if a "
            "download stopped half-way, download it again"
        )
    return (
        f"cannot load the image classifier {name} ({reason}). If that is the id of a model on "
        "huggingface.co, check its spelling and the network; without a network name a folder "
        f"made by save_pretrained, or set classifier.model={TINY_RESNET}"
    )


def _colour_statistics(
    source: str, where: Mapping[str, Any]
) -> tuple[Sequence[float], Sequence[float]]:
    """Return mean and std of the model's preprocessor config; ImageNet's if it has none."""
    from transformers.image_processing_base import ImageProcessingMixin

    try:
        settings, _ = ImageProcessingMixin.get_image_processor_dict(source, **where)
    except OSError:
        return IMAGENET_MEAN, IMAGENET_STD
    if not settings.get("do_normalize", True):
        return (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    return settings.get("image_mean", IMAGENET_MEAN), settings.get("image_std", IMAGENET_STD)
