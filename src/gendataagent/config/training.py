"""[classifier] and [training]: the classifier and how it is trained."""

from __future__ import annotations

from dataclasses import dataclass

from gendataagent.config.settings import setting
from gendataagent.core.devices import AUTO

TIMM_PREFIX = "timm:"  # before the name of a timm model in classifier.model


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassifierConfig:
    """The image classifier that is trained."""

    model: str = setting(
        AUTO,
        "tiny-resnet (64 px, from scratch), a hub id or path of an image classifier or CLIP of "
        "transformers (a CLIP image encoder gets a new head), or timm:NAME; auto = "
        "tiny-resnet for images up to 64 px or without a GPU, else microsoft/resnet-50",
        source="ResNet-50 [S]; CLIP ResNet-50, CLIP ViT [R]",
        path=True,
        names=(AUTO, "tiny-resnet"),
    )
    revision: str = setting("", "hub revision; empty = the newest")
    pretrained: bool = setting(True, "start from the model's weights; no effect on tiny-resnet")
    size_px: int = setting(
        0,
        "side of its square input; 0 = the model's own, 64 for tiny-resnet, mostly 224",
        unit="px",
        source="224, CUB 448 [S]",
        at_least=0,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """How the classifier is trained."""

    epochs: int = setting(
        200, "epochs over the training set", source="[S]", at_least=1, at_most=100_000
    )
    steps_per_epoch: int = setting(
        0,
        "optimiser steps per epoch; 0 = as many as one pass over the real images and those that "
        "are expected to be kept takes. A baseline takes as many",
        at_least=0,
    )
    steps_as_with_agent: bool = setting(
        False,
        "without the agent: take as many steps in each epoch as with it; a run sets it for its "
        "baseline, so that the two differ only in their images",
    )
    batch_size: int = setting(128, "images per step", source="128 x 8 GPUs [S]", at_least=2)
    processes: int | str = setting(
        AUTO,
        "processes that share the images of a step, each on a GPU of its own; results are the same "
        "up to rounding. auto = the number of GPUs, 1 on a CPU, fixed when the run is made",
        source="8 GPUs [S]",
        choices=(AUTO,),
        at_least=1,
        affects_results=False,
    )
    learning_rate: float = setting(0.1, "peak learning rate of SGD", source="[S]", above=0)
    momentum: float = setting(0.9, "momentum of SGD", source="[C]", at_least=0, at_most=0.999)
    nesterov: bool = setting(True, "Nesterov momentum", source="[C]")
    weight_decay: float = setting(5e-4, "L2 penalty", source="[S]", at_least=0)
    decay_milestones: tuple[float, ...] = setting(
        (0.25, 0.5, 0.75),
        "shares of the epochs after which the learning rate drops",
        source="epochs 50/100/150 of 200 [S]",
    )
    decay_rate: float = setting(0.2, "factor at each milestone", source="[S]", above=0, at_most=1)
    warmup_epochs: float = setting(
        0.0, "epochs of linear warm-up", unit="epoch", source="none [S]", at_least=0
    )
    gradient_clip: float = setting(0.0, "largest gradient norm; 0 = no clipping", at_least=0)
    augmentation: str = setting(
        AUTO,
        "pad-crop (shift by an eighth), resized-crop, or none; all but none with a flip. auto = "
        "pad-crop up to 64 px, else resized-crop",
        source="resized-crop, flip 0.5 [C]",
        choices=(AUTO, "pad-crop", "resized-crop", "none"),
    )
    colour_jitter: float = setting(
        0.4, "strength of brightness, contrast, saturation jitter", source="0.4 [C]", at_least=0,
        at_most=1,
    )  # fmt: skip
    randaugment_operations: int = setting(
        0,
        "RandAugment: operations per image, after crop and flip; 0 = off",
        source="2 in RandAugment and torchvision [C]",
        at_least=0,
        at_most=8,
    )
    randaugment_magnitude: float = setting(
        9.0,
        "RandAugment: strength of the operations, on torchvision's scale of 0 to 30",
        source="9 [C]",
        at_least=0,
        at_most=30,
    )
    mix: str = setting(
        "none",
        "mixup: blend each image with another of its batch; cutmix: paste a box of another into "
        "it; the loss is divided between both classes in the same proportion",
        choices=("none", "cutmix", "mixup"),
    )
    mix_alpha: float = setting(
        1.0,
        "the proportion is drawn once per step from Beta(mix_alpha, mix_alpha); 1 = uniform",
        source="CutMix 1, MixUp 0.2 to 1 [C]",
        above=0,
        at_most=100,
    )
    mix_probability: float = setting(
        1.0,
        "share of the steps that mix images",
        source="CutMix's code: 0.5 on CIFAR, 1 on ImageNet [C]",
        above=0,
        at_most=1,
    )
    class_balance: str = setting(
        "none",
        "for classes of uneven size: weights multiplies the loss of an image by the inverse size "
        "of its class, sampling draws every class equally often. Real and synthetic images count; "
        "the number of steps stays the same",
        source="none [I]",
        choices=("none", "weights", "sampling"),
    )
    real_images: bool = setting(
        True,
        "false = train on synthetic images alone; real ones are then only sources, and "
        "agent.first_round_epoch must be 0",
    )
    sibling_replacement: float = setting(
        0.0,
        "probability with which a real image is replaced, each time it is read, by one of the "
        "synthetic images made from it, instead of training on both: an epoch then has as many "
        "images, and by default as many steps, as there are real ones; 0 = off. See docs/peers.md",
        source="0.5 in DA-Fusion [C]",
        at_least=0,
        at_most=1,
        switch=True,
    )
    synthetic_share: float = setting(
        0.0,
        "share of the images of every step that are synthetic, once there are some; 0 = as many as "
        "of all images are. 0.25 where the classifier is pretrained and the generator is weak",
        source="plain concatenation [S]; 0.25: docs/evidence.md",
        at_least=0,
        at_most=0.9,
        switch=True,
    )
    synthetic_weight: float = setting(
        1.0, "loss weight of a synthetic image; 1 = plain concatenation", source="1 [I]", above=0
    )
    synthetic_label_smoothing: float = setting(
        0.0,
        "label smoothing of synthetic images, times the strength they were made with: the freer an "
        "image, the less certain its class; 0 = off",
        source="none [S]",
        at_least=0,
        at_most=0.9,
    )
    batchnorm_from_real: bool = setting(
        False,
        "after training, recompute the statistics of batch normalisation from real images alone: "
        "synthetic ones have other colours and contrasts, and the images to classify are real",
        source="none [S]",
    )
    mixed_precision: str = setting(
        AUTO,
        "auto = bf16 on a GPU, or a CPU with AMX or AVX512-BF16, else fp16 on a GPU and none on a "
        "CPU; fixed when the run is made",
        source="on [S]",
        choices=(AUTO, "no", "fp16", "bf16"),
    )
    evaluate_every_epochs: int = setting(
        1, "epochs between measurements on train and validation", at_least=1
    )
    checkpoint_every_epochs: int = setting(
        1, "epochs between checkpoints to resume from", at_least=1, affects_results=False
    )
