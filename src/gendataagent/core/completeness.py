"""Whether a model's files hold every tensor that its configuration calls for, in its shape.

The libraries continue with random numbers where a tensor is missing, and say so only in a log. Here
the tensors named in the files' headers are loaded, without their numbers, into a model without
memory (torch's "meta" device), by the libraries' own loading code: it knows which tensors are tied
to others, may be absent, or have had other names in older files.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gendataagent.core import hub
from gendataagent.core.errors import ModelError
from gendataagent.core.hub import ModelSource
from gendataagent.core.text import counted
from gendataagent.core.weight_files import (
    WEIGHTS,
    StoredModel,
    StoredTensor,
    is_broken_link,
    stored_model,
)

TRANSFORMERS_STEM = "model"
DIFFUSERS_STEM = "diffusion_pytorch_model"
_NAMED = 3
_NUMBER = re.compile(r"\d+")
_TORCH = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64",
    "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
    "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2",
}  # fmt: skip


class UncheckedModel(UserWarning):
    """A model is checked only when it is loaded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lacks:
    """What a model's files lack.

    Args:
        model: the class that the configuration calls for.
        count: tensors that it has.
        missing: names of tensors that the files do not have.
        misshapen: (name, shape in the files, shape by the configuration).
        surplus: names of tensors of further layers, which the configuration does not have, or of
            layers of another kind: a bias where it has none, the scale of packed weights.
        mistyped: (name, type in the files) of numbers that were saved as integers.
    """

    model: str
    count: int
    missing: tuple[str, ...] = ()
    misshapen: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...] = ()
    surplus: tuple[str, ...] = ()
    mistyped: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of_report(cls, model: Any, report: Mapping[str, Any]) -> Lacks:
        """Return what the `output_loading_info` of transformers' from_pretrained says."""
        return cls(
            model=type(model).__name__,
            count=len(model.state_dict()),
            missing=_needed(model, report["missing_keys"]),
            misshapen=tuple(
                sorted(
                    (name, tuple(stored), tuple(wanted))
                    for name, stored, wanted in report["mismatched_keys"]
                )
            ),
            surplus=_further_layers(report["unexpected_keys"], model.state_dict()),
        )

    @classmethod
    def between(
        cls,
        model: str,
        wanted: Mapping[str, tuple[int, ...]],
        found: Mapping[str, tuple[int, ...]],
    ) -> Lacks:
        """Return in what files differ from a model; both are name -> shape of each tensor."""
        return cls(
            model=model,
            count=len(wanted),
            missing=tuple(sorted(wanted.keys() - found.keys())),
            misshapen=tuple(
                (name, found[name], wanted[name])
                for name in sorted(wanted.keys() & found.keys())
                if found[name] != wanted[name]
            ),
            surplus=_further_layers(found.keys() - wanted.keys(), wanted),
        )

    def __bool__(self) -> bool:
        return bool(self.missing or self.misshapen or self.surplus or self.mistyped)

    def but_for(self, is_allowed: Callable[[str], bool]) -> Lacks:
        """Return what is lacking besides tensors that may be."""
        return replace(
            self,
            missing=tuple(name for name in self.missing if not is_allowed(name)),
            misshapen=tuple(entry for entry in self.misshapen if not is_allowed(entry[0])),
            surplus=tuple(name for name in self.surplus if not is_allowed(name)),
            mistyped=tuple(entry for entry in self.mistyped if not is_allowed(entry[0])),
        )

    def sentence(self, where: str, stored: StoredModel | None = None) -> str:
        """Return what is lacking and what to do.

        Args:
            where: the files, such as "X/model.safetensors" or "the weights of NAME".
            stored: to name the shard of which the index promises the first missing tensor.
        """
        if self.missing:
            shard = stored.promised.get(self.missing[0]) if stored else None
            promised = f", by the index in {shard.name}" if shard else ""
            fault = (
                f"{len(self.missing)} of the {self.count} tensors of a {self.model} are missing "
                f"({_some(self.missing)}{promised})"
            )
        elif self.surplus:
            fault = (
                f"{counted(len(self.surplus), 'tensor is', 'tensors are')} of layers that a "
                f"{self.model} by its configuration does not have ({_some(self.surplus)})"
            )
        elif self.mistyped:
            name, kind = self.mistyped[0]
            more = len(self.mistyped) - 1
            fault = f"{name} holds integers ({kind}) where a {self.model} has fractions"
            fault += f" ({more} more do)" if more else ""
        else:
            name, found, wanted = self.misshapen[0]
            more = len(self.misshapen) - 1
            fault = f"{name} has shape {list(found)}, but a {self.model} by its configuration has "
            fault += f"{list(wanted)}" + (f" ({more} more do not fit)" if more else "")
        return (
            f"in {where}, {fault}; it is damaged or of another model: download the complete "
            "model again"
        )


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")


def _further_layers(extra: Iterable[str], known: Iterable[str]) -> tuple[str, ...]:
    """Return the names that differ from a known one only in their numbers, layer 7 of 6, and those
    in a layer with a known "weight": without them it would compute something else.
    """
    kinds = {_NUMBER.sub("#", name) for name in known}
    layers = {name.removesuffix(".weight") for name in known if name.endswith(".weight")}
    return tuple(
        sorted(
            name
            for name in extra
            if _NUMBER.sub("#", name) in kinds or not layers.isdisjoint(_places(name))
        )
    )


def _places(name: str) -> Iterator[str]:
    """Yield the modules that a tensor is in, from the outermost: "a", "a.b" of "a.b.weight"."""
    return itertools.accumulate(name.split(".")[:-1], "{}.{}".format)


def _integers(model: Any, stored: StoredModel) -> tuple[tuple[str, str], ...]:
    """Return (name, type) of stored integers where the model has floating-point numbers."""
    wanted = {name for name, tensor in model.state_dict().items() if tensor.is_floating_point()}
    return tuple(
        (name, tensor.dtype)
        for name, tensor in sorted(stored.tensors.items())
        if name in wanted and is_integer(tensor)
    )


def is_integer(tensor: StoredTensor) -> bool:
    """Return whether a stored tensor holds integers or truth values."""
    return tensor.dtype[0] in "IUB" and tensor.dtype != "BF16"


def check_finite(where: str, module: Any) -> None:
    """Raise unless all loaded numbers of a network are finite.

    Args:
        where: begins the sentence: "generation.generator: the unet of NAME".

    Raises:
        ModelError: naming the first tensor that is not.
    """
    import torch

    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point() and not tensor.is_meta:
            numbers = tensor.float() if tensor.element_size() == 1 else tensor
            if not torch.isfinite(numbers).all():
                raise ModelError(
                    f"{where} has numbers that are not finite, in {name}: its file is damaged, or "
                    f"they are too large for {str(tensor.dtype).removeprefix('torch.')}. Download "
                    "the complete model again, or choose float32 where the settings have a dtype"
                )


def _needed(model: Any, missing: Iterable[str]) -> tuple[str, ...]:
    """Return the names but for those of integer buffers.

    These are tables of positions, which the model computes itself, and BatchNorm's counter, which
    no forward pass uses: files from other formats lack it.
    """
    computed = {name for name, tensor in model.named_buffers() if not tensor.is_floating_point()}
    return tuple(sorted(name for name in missing if name not in computed))


def check_auto(
    source: ModelSource,
    auto: Any,
    config: Any,
    *,
    needed: Callable[[Any, Lacks], Lacks] = lambda _, lacks: lacks,
) -> None:
    """Do `check_files` for the class that an `Auto` class of transformers takes.

    Raises:
        ModelError: as `check_files`, or it has no class for such a model.
    """
    cls = _class_for(auto, config)
    if cls is not None:
        check_files(source, cls, config, needed=needed)
    elif getattr(config, "auto_map", None):
        warn_unchecked(source, "it has its own code")
    else:
        raise ModelError(
            f"{source.setting}: {source.name} is a model of type {config.model_type!r}, not "
            f"{source.kind}. {source.instead}".rstrip()
        )


def check_files(
    source: ModelSource,
    cls: Any,
    config: Any,
    *,
    needed: Callable[[Any, Lacks], Lacks] = lambda _, lacks: lacks,
) -> None:
    """Raise unless the files of a transformers model on this machine are complete.

    Warns where that shows only at loading: the files are not here yet, or hold packed weights.

    Args:
        cls: its class, no `Auto` class.
        config: as its config.json says.
        needed: of the model and what its files lack: what of it counts.

    Raises:
        ModelError: a file is damaged or missing, or tensors are; the message names both.
    """
    folder = hub.local_folder(source)
    named = getattr(config, "transformers_weights", None)
    stem = str(named).removesuffix(WEIGHTS) if named else TRANSFORMERS_STEM
    stored = None if folder is None else read_stored(source, folder, stem)
    if stored is None:
        if source.folder is not None:
            raise ModelError(
                f"{source.setting}: {source.folder} has no {stem}{WEIGHTS}, the file of a model "
                "of transformers; download the complete model again"
            )
        warn_not_here(source, "its weights are not on this machine yet")
        return
    if is_quantised(config):
        warn_unchecked(source, "its weights are packed")
        return
    refuse_packed(source, stored)
    try:
        model, lacks = lacks_of_transformers(cls, config, stored)
    except Exception as error:  # a class may need its numbers to be built
        warn_unchecked(source, f"it cannot be built without its weights ({error})")
        return
    if lacks := needed(model, lacks):
        raise ModelError(f"{source.setting}: {lacks.sentence(str(stored.listed_in), stored)}")


def lacks_of_transformers(cls: Any, config: Any, stored: StoredModel) -> tuple[Any, Lacks]:
    """Return the model on the meta device and what the files lack for it.

    Args:
        cls: its class in transformers, no `Auto` class.

    Raises:
        Exception: of any kind, if the library cannot load such a model without its numbers.
    """
    import torch

    with _silent_transformers():
        model, report = cls.from_pretrained(
            None,
            config=config,
            state_dict=_without_numbers(stored.tensors),
            device_map={"": "meta"},
            dtype=torch.float32,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    return model, replace(Lacks.of_report(model, report), mistyped=_integers(model, stored))


def lacks_of_diffusers(
    cls: Any, config: Mapping[str, Any], stored: StoredModel
) -> tuple[Any, Lacks]:
    """Return the model on the meta device and what the files lack for it; raise like the other."""
    import torch

    with torch.device("meta"):
        model = cls.from_config(config)
    tensors = _without_numbers(stored.tensors)
    model._fix_state_dict_keys_on_load(tensors)  # names of the attention blocks before 2023
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    ignored = getattr(cls, "_keys_to_ignore_on_load_unexpected", None) or ()
    expected = {n for n in found if any(re.search(pattern, n) for pattern in ignored)}
    lacks = Lacks.between(
        cls.__name__, wanted, {n: s for n, s in found.items() if n in wanted or n not in expected}
    )
    missing = _needed(model, lacks.missing)
    return model, replace(lacks, missing=missing, mistyped=_integers(model, stored))


def _class_for(auto: Any, config: Any) -> Any | None:
    from transformers.models.auto import auto_factory

    choose: Any = auto_factory._get_model_class
    known = auto._model_mapping
    return choose(config, known) if type(config) in known else None


def is_quantised(config: Any) -> bool:
    """Return whether the files hold packed weights, under other names and shapes."""
    name = "quantization_config"
    return bool(config.get(name) if isinstance(config, Mapping) else getattr(config, name, None))


def refuse_packed(source: ModelSource, stored: StoredModel) -> None:
    """Raise `ModelError` for numbers of a type that only code for packed weights reads."""
    for name, tensor in stored.tensors.items():
        if tensor.dtype not in _TORCH:
            raise ModelError(
                f"{source.setting}: in {tensor.file}, {name} is of type {tensor.dtype}, which only "
                "quantised models have, and config.json does not say how it is packed; download "
                "the model in float32, float16 or bfloat16"
            )


def read_stored(source: ModelSource, folder: Path, stem: str, **options: Any) -> StoredModel | None:
    """Return `weight_files.stored_model`; raise `ModelError` for a damaged file.

    In the hub's cache broken links, left by copying it without their files, count as not
    downloaded.
    """
    if source.folder is None and any(map(is_broken_link, folder.glob(f"{stem}*"))):
        return None
    try:
        return stored_model(folder, stem, **options)
    except ValueError as error:
        raise ModelError(f"{source.setting}: in {folder}, {error}") from error


def warn_unchecked(source: ModelSource, why: str) -> None:
    """Warn that a model's tensors are checked only when it is loaded."""
    warnings.warn(
        f"{source.setting}: whether {source.name} is complete is checked when it is loaded: {why}",
        UncheckedModel,
        stacklevel=2,
    )


def warn_not_here(source: ModelSource, why: str) -> None:
    """Warn that the rest of a hub model is checked once it has been downloaded.

    Raises:
        ModelError: the hub cannot be reached to download it.
    """
    hub.check_download(source)
    warn_unchecked(source, why)


@contextlib.contextmanager
def collect_unchecked() -> Iterator[list[str]]:
    """Collect the sentences of `warn_unchecked` inside the block in the list, each once."""
    sentences: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", UncheckedModel)
        yield sentences
        sentences += dict.fromkeys(str(warning.message) for warning in caught)


def _without_numbers(tensors: Mapping[str, StoredTensor]) -> dict[str, Any]:
    import torch

    return {
        name: torch.empty(tensor.shape, dtype=getattr(torch, _TORCH[tensor.dtype]), device="meta")
        for name, tensor in tensors.items()
    }


@contextlib.contextmanager
def _silent_transformers() -> Iterator[None]:
    """Switch off transformers' log and progress bars; both are restored."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
