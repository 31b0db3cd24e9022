"""A trained classifier as a folder that transformers loads, and such a folder as a classifier.

config.json                architecture, class names
model.safetensors          weights, statistics of batch normalisation
preprocessor_config.json   size, crop and colour normalisation, as in our own evaluation
README.md                  how to load it with transformers
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from torch import nn

from gendataagent import __version__
from gendataagent.core import files
from gendataagent.core.completeness import Lacks, check_finite
from gendataagent.core.devices import memory_errors
from gendataagent.core.errors import (
    MemoryShortError,
    ModelError,
    RunFolderError,
    StorageError,
)
from gendataagent.core.model_settings import fault_of_settings
from gendataagent.core.rows import read_mapping
from gendataagent.core.text import reason_of
from gendataagent.data.decoding.bit_depth import DEPTHS
from gendataagent.training.backbones import transformers_models
from gendataagent.training.backbones.preprocessing import Preprocessing
from gendataagent.training.backbones.timm_models import as_timm_wrapper
from gendataagent.training.classifier import Classifier

CONFIG_FILE = "config.json"
README_FILE = "README.md"
CHANNELS_LAST = "channels_last"
BICUBIC = 3  # Pillow's number


def save_classifier(classifier: Classifier, folder: Path, *, resize_px: int, bits: int = 0) -> None:
    """Write `classifier` to `folder`, atomically; what was there before is replaced.

    Args:
        resize_px: side to which evaluation resizes the shorter side before the centre crop.
        bits: real depth of its training images with 16 bits a sample; 0 = there were none.

    Raises:
        ModelError: the module is of no kind that transformers can save.
        StorageError: the disk is full, no permission...
    """
    module = _as_pretrained(classifier)
    if _is_channels_last(module):
        module.config.memory_format = CHANNELS_LAST
    if bits:
        module.config.image_bits = bits
    transformers_models.quiet()
    with files.atomic_folder(folder) as aside:
        try:
            module.save_pretrained(aside)
        except SafetensorError as error:  # how it reports a full disk
            raise StorageError(
                f"cannot write {folder}: {error}. Free some space, then resume the run"
            ) from error
        settings = preprocessor_settings(classifier, resize_px)
        files.write_json(aside / transformers_models.PREPROCESSOR_FILE, settings)
        files.write_bytes(aside / README_FILE, _readme(module, classifier, bits).encode())


def read_classifier(
    folder: Path, *, device: torch.device | str = "cpu", trust_remote_code: bool = False
) -> Classifier:
    """Return the classifier in `folder`, in eval mode; the network is not asked for anything.

    Args:
        folder: what `save_classifier` wrote, or any image classifier saved by transformers.
        trust_remote_code: whether Python code in the folder may be run.

    Raises:
        RunFolderError: files are missing or damaged.
    """
    try:
        with memory_errors(f"loading the classifier in {folder}", "end other programs that use it"):
            classifier = _read(folder, device, trust_remote_code)
    except (RunFolderError, MemoryShortError):
        raise
    except Exception as error:  # the libraries raise any kind for settings that they cannot read
        reason = reason_of(error, 500)
        raise RunFolderError(f"cannot load the classifier in {folder}: {reason}") from error
    classifier.module.eval()
    return classifier


def _read(folder: Path, device: torch.device | str, trust_remote_code: bool) -> Classifier:
    module = _read_module(folder, trust_remote_code)
    config: Any = module.config
    if getattr(config, "memory_format", None) == CHANNELS_LAST:
        module = cast(nn.Module, module.to(memory_format=torch.channels_last))  # type: ignore[call-overload]
    path = folder / transformers_models.PREPROCESSOR_FILE
    settings = files.read_json(path) if path.is_file() else None
    images = Preprocessing.from_settings(settings, config.model_type)
    size_px = images.size_px or transformers_models.USUAL_PX
    return Classifier(
        module,
        class_names=transformers_models.output_names(config),
        size_px=size_px,
        resize_px=max(size_px, images.resize_px or size_px),
        mean=images.mean,
        std=images.std,
        bits=_bits_of(config),
        device=device,
    )


def _bits_of(config: Any) -> int:
    bits = getattr(config, "image_bits", 0)
    return bits if isinstance(bits, int) and bits in DEPTHS else 0


def preprocessor_settings(classifier: Classifier, resize_px: int) -> dict[str, Any]:
    """Return our evaluation's preprocessing as settings of an image processor of transformers.

    CLIP's processor, because it does these steps in this order: shorter side to `resize_px`
    (bicubic), centre crop, scale to [0, 1], normalise.
    """
    size_px = classifier.size_px
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": resize_px},
        "resample": BICUBIC,
        "do_center_crop": True,
        "crop_size": {"height": size_px, "width": size_px},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(classifier.mean),
        "image_std": list(classifier.std),
    }


def _as_pretrained(classifier: Classifier) -> Any:
    """Return the module as a model of transformers."""
    from transformers import PreTrainedModel

    from gendataagent.training.backbones.pooled_encoder import PooledEncoder

    module = classifier.module
    if isinstance(module, PooledEncoder):
        module.register_for_auto_class("AutoModelForImageClassification")
    if isinstance(module, PreTrainedModel):
        return module
    if type(module).__module__.partition(".")[0] == "timm":
        return as_timm_wrapper(module, classifier.class_names, size_px=classifier.size_px)
    raise ModelError(
        f"{type(module).__name__} is neither a model of transformers nor of timm, so it cannot be "
        "saved as one; save its state_dict yourself"
    )


def _read_module(folder: Path, trust_remote_code: bool) -> nn.Module:
    import transformers

    transformers_models.quiet()
    if fault := fault_of_settings(folder / CONFIG_FILE, trust_remote_code=trust_remote_code):
        raise ValueError(f"{CONFIG_FILE} {fault}")
    architectures = read_mapping(folder / CONFIG_FILE).get("architectures") or [""]
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": trust_remote_code}
    loader: Any = transformers.AutoModelForImageClassification
    if "PooledForImage" in str(
        architectures[0]
    ):  # the code in the folder is ours: take it from here
        from gendataagent.training.backbones.pooled_encoder import class_for

        config = transformers.AutoConfig.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
        loader, options = class_for(config), {"config": config}
    module, loading = loader.from_pretrained(
        str(folder),
        use_safetensors=True,
        dtype=torch.float32,
        output_loading_info=True,
        **options,
    )
    if lacks := Lacks.of_report(module, loading):
        raise ValueError(lacks.sentence("model.safetensors"))
    check_finite("the network", module)
    return cast(nn.Module, module)


def _is_channels_last(module: nn.Module) -> bool:
    kernels = [weight for weight in module.parameters() if weight.dim() == 4]
    return any(
        kernel.is_contiguous(memory_format=torch.channels_last) and not kernel.is_contiguous()
        for kernel in kernels
    )


def _readme(module: Any, classifier: Classifier, bits: int) -> str:
    """Return the folder's README: the lines to load it, and what to know."""
    remote = ""
    notes = [
        f"{len(classifier.class_names)} classes; their names are `model.config.id2label`.",
        'With `backend="pil"` the processor computes what gendataagent\'s evaluation computes; '
        "torchvision resizes with slightly different rounding. Turn an image upright first "
        "(`PIL.ImageOps.exif_transpose`) and put a transparent one on white.",
        "With transformers 5.6 to 5.17, `AutoImageProcessor` needs torchvision.",
    ]
    if bits:
        notes.append(
            f"Its images with 16 bits a sample used {bits} of them: scale such images to 8 bits "
            f"from {bits} first (value / {(1 << bits) - 1} * 255)."
        )
    if "PooledForImage" in type(module).__name__:
        remote = ", trust_remote_code=True"
        notes.append(
            "`trust_remote_code=True` runs `pooled_encoder.py` of this folder: the classes that "
            "transformers has for this encoder average its patch tokens; this one classifies its "
            "pooled output."
        )
    elif module.config.model_type == "timm_wrapper":
        notes.append("Loading it needs timm: `pip install timm torchvision`.")
    lines = "\n".join(f"- {note}" for note in notes)
    return f"""---
library_name: transformers
pipeline_tag: image-classification
---

# Image classifier trained by gendataagent {__version__}

```python
from transformers import AutoImageProcessor, AutoModelForImageClassification

model = AutoModelForImageClassification.from_pretrained("path/to/this/folder"{remote})
processor = AutoImageProcessor.from_pretrained("path/to/this/folder", backend="pil")
logits = model(**processor(image, return_tensors="pt")).logits
```

{lines}
"""
