"""The output layer of a pretrained network, whose rows are classes: kept by name, or new."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gendataagent.core.errors import ModelError
from gendataagent.data.labels import both_lists, list_classes, same_classes

_IMAGES = 2


def heads_of(module: nn.Module, classes: int) -> list[str]:
    """Return the names of the linear layers that give one output a class.

    Some networks have a second one (DeiT's for distillation). Parts of the backbone are numbered;
    the last linear layer of a network with `num_labels` is an output layer anyway.
    """
    linears = {key: part for key, part in module.named_modules() if isinstance(part, nn.Linear)}
    heads = [
        key
        for key, part in linears.items()
        if part.out_features == classes and not any(word.isdigit() for word in key.split("."))
    ]
    last = list(linears)[-1:] if hasattr(module, "num_labels") else []
    return list(dict.fromkeys([*heads, *last]))


def fit_head(
    module: nn.Module, own_names: Sequence[str], class_names: Sequence[str], *, size_px: int
) -> str:
    """Make output i of a loaded network class i of `class_names`.

    With the same classes in another order, the rows of the output layer are reordered by name. With
    other classes of the same number, it gets new weights, drawn from torch's global generator.

    Args:
        module: images [B, 3, size_px, size_px] -> logits [B, C], or an output with `.logits`.
        own_names: of the outputs as saved; if not C, their layer was replaced when loading.

    Returns:
        What was done, for the user; "" where the outputs are right as loaded.

    Raises:
        ModelError: the outputs have to change, and no output layer is recognised.
    """
    order = same_classes(class_names, own_names)
    if order == tuple(range(len(own_names))):
        return ""
    if order is not None:
        for head in _output_layers(module, len(own_names), size_px):
            _reorder(head, order)
        return (
            "The output layer of classifier.model was reordered by class name to the order of the "
            f"data: {list_classes(class_names)}; the model had {list_classes(own_names)}."
        )
    if len(own_names) == len(class_names):
        for head in _output_layers(module, len(own_names), size_px):
            _renew(module, head)
    return new_head_note(own_names, class_names)


def new_head_note(own_names: Sequence[str], class_names: Sequence[str]) -> str:
    """Return why a network of other classes has a new output layer."""
    if len(own_names) == len(class_names):
        why = "its classes are not those of the data: " + both_lists(
            "the data", class_names, "the model", own_names
        )
    else:
        why = f"it has {len(own_names):,} classes, the data {len(class_names):,}"
    return f"The output layer of classifier.model is new: {why}."


def _output_layers(module: nn.Module, classes: int, size_px: int) -> list[nn.Linear]:
    """Return the layers whose outputs are the logits, verified with weights that tell them apart.

    Raises:
        ModelError: it is none of the layers that `heads_of` names.
    """
    keys = heads_of(module, classes)
    for some in (keys, keys[-1:]):
        heads = [part for key in some if isinstance(part := module.get_submodule(key), nn.Linear)]
        kept = [{key: value.clone() for key, value in head.state_dict().items()} for head in heads]
        expected_C = torch.zeros(classes)
        with torch.no_grad():
            for head in heads:
                head.weight.zero_()
                if head.bias is not None:
                    expected_C = torch.arange(head.out_features).float()
                    head.bias.copy_(expected_C)
        logits_BC = _logits(module, size_px)
        for head, weights in zip(heads, kept, strict=True):
            head.load_state_dict(weights)
        if heads and torch.equal(logits_BC, expected_C.expand(len(logits_BC), -1)):
            return heads
    raise ModelError(
        f"classifier.model: the classes of this {type(module).__name__} are not those of the data, "
        "or ordered otherwise, and its output layer is of an unknown kind; set "
        "classifier.pretrained=false, or choose another model"
    )


def _logits(module: nn.Module, size_px: int) -> Tensor:
    """Return the logits of two fixed images of noise."""
    noise = torch.Generator().manual_seed(0)
    images_B3SS = torch.randn((_IMAGES, 3, size_px, size_px), generator=noise)
    training = module.training
    module.eval()
    try:
        with torch.no_grad():
            output: Any = module(images_B3SS)
    finally:
        module.train(training)
    logits_BC: Tensor = output if isinstance(output, Tensor) else output.logits
    return logits_BC.float()


def _reorder(head: nn.Linear, order: Sequence[int]) -> None:
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(parameter[list(order)])


def _renew(module: nn.Module, head: nn.Linear) -> None:
    """Draw new weights, as transformers does for a layer that is missing from the files."""
    head.reset_parameters()
    initialise = getattr(module, "_init_weights", None)
    if initialise is None:
        return
    for parameter in head.parameters():
        if hasattr(parameter, "_is_hf_initialized"):
            del parameter._is_hf_initialized
    initialise(head)
