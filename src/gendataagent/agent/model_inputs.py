"""The images that a classifier of the user's own takes: their size and normalisation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from gendataagent.core.errors import ConfigError, DataError, ModelError
from gendataagent.core.text import reason_of
from gendataagent.data import median_side_px
from gendataagent.data.labels import both_lists, in_order, same_classes
from gendataagent.data.numbered_names import names_of_outputs
from gendataagent.data.train_set import TrainSet
from gendataagent.training.classifier import IMAGENET_MEAN, IMAGENET_STD, Classifier

USUAL_PX = 224
STEP_PX = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInputs:
    """What is known about the inputs of the user's model before it is seen.

    Whatever is None is taken from the first of these that has it: the transform of the train set
    (size of the tensors it gives; its Normalize; no normalisation if they lie in [0, 1]), the
    module (`config.image_size` of transformers, `pretrained_cfg` of timm), and at last the median
    shorter side of the images, rounded to a multiple of 32 and at most 224, with ImageNet's mean
    and std.

    Args:
        size_px: side of the square images.
        mean, std: per colour channel, of images in [0, 1].
    """

    train_set: TrainSet
    size_px: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    @classmethod
    def of(
        cls,
        train_set: TrainSet,
        size_px: int | None,
        mean: Sequence[float] | None,
        std: Sequence[float] | None,
    ) -> ModelInputs:
        """Return the inputs as given, else as the train set shows them.

        Raises:
            ConfigError: only one of mean and std, or not one value per channel.
        """
        if (mean is None) != (std is None):
            raise ConfigError("mean and std are given together or not at all; got one of them")
        for name, values in (("mean", mean), ("std", std)):
            if values is not None and len(values) != 3:
                raise ConfigError(f"{name} must be three numbers, for R, G, B; got {values!r}")
        if size_px is not None and size_px < 1:
            raise ConfigError(f"size_px must be at least 1, got {size_px}")
        return cls(
            train_set=train_set,
            size_px=size_px or train_set.size_px,
            mean=tuple(mean) if mean is not None else train_set.mean,
            std=tuple(std) if std is not None else train_set.std,
        )

    def classifier(self, model: nn.Module | Classifier) -> Classifier:
        """Return `model` as a classifier that shares its weights; a `Classifier` is returned as is.

        Raises:
            ModelError: `model` is no torch module.
            DataError: it names the classes of its outputs in another order than the train set.
        """
        class_names = self.train_set.images.class_names
        if isinstance(model, Classifier):
            if not in_order(model.class_names, class_names):
                raise DataError(_other_classes("the classifier", model.class_names, class_names))
            return model
        if not isinstance(model, nn.Module):
            raise ModelError(
                f"the model is a {type(model).__name__}; give a torch module that returns logits, "
                "or a gendataagent.Classifier"
            )
        module = _unwrapped(model)
        own_names = _class_names(module)
        if same_classes(own_names, class_names) and not in_order(own_names, class_names):
            raise DataError(_other_classes("the model's id2label", own_names, class_names))
        size_px = self.size_px or _size_px(module) or self._usual_size_px()
        mean, std = self.mean, self.std
        if mean is None or std is None:
            mean, std = _mean_and_std(module) or (IMAGENET_MEAN, IMAGENET_STD)
        return Classifier.wrap(
            module,
            class_names=class_names,
            size_px=size_px,
            mean=mean,
            std=std,
        )

    def _usual_size_px(self) -> int:
        side_px = median_side_px(self.train_set.images)
        return min(USUAL_PX, max(STEP_PX, STEP_PX * round(side_px / STEP_PX)))


def _unwrapped(module: nn.Module) -> nn.Module:
    """Return the module inside DataParallel, DistributedDataParallel or torch.compile."""
    wrappers = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    while True:
        if isinstance(module, wrappers):
            module = module.module
        elif isinstance(inner := getattr(module, "_orig_mod", None), nn.Module):
            module = inner
        else:
            return module


def _other_classes(whose: str, names: Sequence[str], class_names: Sequence[str]) -> str:
    return (
        "the outputs of the model and the labels of the train set are not the same classes in the "
        f"same order: {both_lists(whose, names, 'the train set', class_names)}. Give both one order"
    )


def _class_names(module: nn.Module) -> tuple[str, ...]:
    """Return the names of the outputs of a model of transformers, () without any.

    Raises:
        DataError: they do not name each output once, or label2id contradicts them.
    """
    for config in _configs(module):
        names = config.get("id2label")
        if isinstance(names, Mapping) and names:
            try:
                return tuple(names_of_outputs(names, config.get("label2id")))
            except (TypeError, ValueError) as error:
                raise DataError(
                    f"the model's id2label does not name its outputs: {reason_of(error)}. Correct "
                    "model.config.id2label, or set it to None"
                ) from error
    return ()


def _configs(module: nn.Module) -> Iterator[Mapping[str, Any]]:
    for name in ("pretrained_cfg", "default_cfg", "config"):
        value = getattr(module, name, None)
        if value is None or isinstance(value, nn.Module):
            continue
        if not isinstance(value, Mapping):
            value = getattr(value, "__dict__", {})
        yield value


def _size_px(module: nn.Module) -> int | None:
    for config in _configs(module):
        size = config.get("input_size") or config.get("image_size")
        if isinstance(size, list | tuple) and size:
            size = size[-1]
        if isinstance(size, int) and size > 0:
            return size
    return None


def _mean_and_std(module: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    for config in _configs(module):
        mean, std = config.get("mean"), config.get("std")
        if isinstance(mean, list | tuple) and isinstance(std, list | tuple):
            return tuple(mean), tuple(std)
    return None
