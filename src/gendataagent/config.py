"""Every setting of a run: a frozen dataclass tree, TOML in and out, all problems at once.

Each setting carries its help text, unit, allowed values and source next to its default, so that
`gendataagent config`, the checks and the docs can never disagree. Sources are tagged as in
docs/method.md: [S] stated in the paper's supplementary, [R] reported second-hand, [C] read in cited
code, [I] inferred, [?] open; no tag = ours.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, cast

import tomli_w

from gendataagent.errors import ConfigError
from gendataagent.settings import (
    apply_overrides,
    build,
    iterate_settings,
    plain,
    read_toml,
    setting,
)

AUTO = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class DataConfig:
    """Where the real images are and how they are split."""

    path: str = setting(
        "bundled:cifar10",
        "folder of images (class/*.jpg, or train|validation|test/class/*), an official archive of "
        "the paper's six data sets unpacked, a parquet file or folder, a data set saved by Hugging "
        "Face datasets, hub:NAME (asks the network), or bundled:cifar10",
    )
    layout: str = setting(
        AUTO,
        "how a folder is laid out: folder (one per class), or the official layout of one of the "
        "paper's data sets; auto = the official one where its files are recognised, else folder",
        choices=(AUTO, "folder", "pets", "cub", "flowers", "birdsnap", "food", "in100"),
    )
    revision: str = setting("", "revision of hub: data; empty = the newest")
    image_column: str = setting(AUTO, "column of the picture in parquet / Hugging Face data")
    label_column: str = setting(AUTO, "column of the class in parquet / Hugging Face data")
    train_per_class: int = setting(
        0, "use only this many training images of each class, drawn by seed; 0 = all", at_least=0
    )
    validation_share: float = setting(
        0.15,
        "share of each class set aside when no validation split is given",
        above=0,
        at_most=0.5,
    )
    test_share: float = setting(
        0.15, "share of each class set aside when no test split is given", above=0, at_most=0.5
    )
    max_megapixels: float = setting(
        178.0,
        "larger pictures are quarantined, not decoded (Pillow's own limit is 178.9)",
        unit="megapixel",
        above=0,
        at_most=178,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassifierConfig:
    """The image classifier that is trained."""

    model: str = setting(
        AUTO,
        "tiny-resnet (32 px, from scratch), a hub id or path of an image-classification model or "
        "CLIP of transformers (a CLIP image encoder gets a new head), or timm:NAME; auto = "
        "tiny-resnet for pictures up to 64 px or without a GPU, else microsoft/resnet-50",
        source="ResNet-50 [S]; CLIP ResNet-50, CLIP ViT [R]",
    )
    revision: str = setting("", "hub revision; empty = the newest")
    pretrained: bool = setting(True, "start from the model's weights (no effect on tiny-resnet)")
    size_px: int = setting(
        0,
        "side of the square pictures it sees; 0 = 32 for tiny-resnet, else 224",
        unit="px",
        source="224, CUB 448 [S]",
        at_least=0,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """How the classifier is fitted."""

    epochs: int = setting(200, "epochs over the training set", source="[S]", at_least=1)
    steps_per_epoch: int = setting(
        0,
        "optimiser steps an epoch; 0 = one pass over real + kept images. A fixed number makes runs "
        "with and without synthetic images equal in steps",
        at_least=0,
    )
    batch_size: int = setting(128, "images a step", source="128 x 8 GPUs [S]", at_least=2)
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
        "RandAugment: operations drawn for each picture after crop and flip; 0 = off",
        source="2 in RandAugment and torchvision [C]",
        at_least=0,
        at_most=8,
    )
    randaugment_magnitude: float = setting(
        9.0,
        "strength of its operations on torchvision's scale of 0 to 30",
        source="9 [C]",
        at_least=0,
        at_most=30,
    )
    mix: str = setting(
        "none",
        "mixup: blend each picture with another of its batch; cutmix: paste a box of another into "
        "it; the loss is divided between both classes in the same proportion",
        choices=("none", "cutmix", "mixup"),
    )
    mix_alpha: float = setting(
        1.0,
        "the proportion is drawn once a step from Beta(this, this); 1 = evenly from 0 to 1",
        source="CutMix 1, MixUp 0.2 to 1 [C]",
        above=0,
        at_most=100,
    )
    mix_probability: float = setting(
        1.0,
        "share of the steps that mix",
        source="CutMix's code: 0.5 on CIFAR, 1 on ImageNet [C]",
        above=0,
        at_most=1,
    )
    real_images: bool = setting(
        True,
        "false = train on the synthetic images alone; the real ones then only serve as sources, "
        "and agent.first_round_epoch must be 0",
    )
    synthetic_weight: float = setting(
        1.0, "loss weight of a synthetic image; 1 = plain concatenation", source="1 [I]", above=0
    )
    synthetic_label_smoothing: float = setting(
        0.0,
        "label smoothing of a synthetic image: this * the strength it was made with goes to all "
        "classes alike, since a freer image shows its class less surely; 0 = off",
        source="none [S]",
        at_least=0,
        at_most=0.9,
    )
    synthetic_share_of_batch: float = setting(
        0.0,
        "share of each batch that is synthetic, however many images there are of either kind; 0 = "
        "as they come in the plain concatenation",
        source="plain concatenation [I]",
        at_least=0,
        at_most=0.9,
    )
    mixed_precision: str = setting(
        AUTO,
        "auto = bf16 or fp16 on a GPU, none on a CPU",
        source="on [S]",
        choices=(AUTO, "no", "fp16", "bf16"),
    )
    evaluate_every_epochs: int = setting(
        1, "epochs between measurements on train and validation", at_least=1
    )
    checkpoint_every_epochs: int = setting(
        1, "epochs between checkpoints to resume from", at_least=1, affects_results=False
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentConfig:
    """When the agent acts and what becomes of its images."""

    enabled: bool = setting(True, "false = train on the real images only")
    rounds: int = setting(20, "on-the-fly iterations", source="20 [S]", at_least=1)
    first_round_epoch: int = setting(
        -1,
        "epochs trained before the first round; the others follow at equal distances. -1 = one "
        "such distance (epochs / (rounds + 1))",
        source="[?]; 20 rounds in 200 epochs = one every 10 [I]",
        at_least=-1,
    )
    pool: str = setting(
        "replace",
        "replace: train on the newest round's images; accumulate: on those of all rounds",
        source="[?]",
        choices=("replace", "accumulate"),
    )
    baseline: bool = setting(
        False,
        "first train the same without the agent, into RUN/baseline, to compare with",
        affects_results=False,
    )
    release_models: str = setting(
        AUTO,
        "whether captioner, rewriter and generator leave the memory after their stage: auto = when "
        "less than half of the device's memory is left",
        choices=(AUTO, "always", "never"),
        affects_results=False,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionConfig:
    """Which real images new ones are made from."""

    by: str = setting(
        "marginal",
        "marginal: lowest softmax probability of the true class; entropy: highest; margin: "
        "narrowest between the two likeliest classes; uniform: drawn by seed",
        source="marginal [R]",
    )
    share: float = setting(
        0.2, "share of the training set selected", source="1/5 of 1/5, 1/4, 1/2 swept [S, I]",
        above=0, at_most=1,
    )  # fmt: skip
    per_class: bool = setting(
        False, "take the share of each class instead of the whole set", source="whole set [I]"
    )
    budget_by: str = setting(
        "size",
        "what a class's part follows when it is taken per class: size = its number of images; "
        "validation-error or training-error = that times how often the class is missed, so that "
        "weak classes get more (implies per_class)",
        choices=("size", "validation-error", "training-error"),
    )
    skip_hardest: float = setting(
        0.0,
        "share of the images passed over at the hard end, where wrong labels and outliers gather; "
        "as many are selected all the same",
        source="0 [I]",
        at_least=0,
        at_most=0.9,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptingConfig:
    """How pictures become prompts."""

    captioner: str = setting(
        AUTO,
        "visible-attributes (bundled, no model), none (the class name alone), or a hub id or path "
        "of an image-to-text model of transformers; auto = visible-attributes",
        source="BLIP-2 [S]; which one is open [?]",
    )
    captioner_revision: str = setting("", "hub revision of the captioner; empty = the newest")
    caption_prompt: str = setting(
        "", "text the captioner is given to go on from or to answer; empty = none, as BLIP-2 wants"
    )
    caption_tokens: int = setting(
        40, "longest caption", unit="token", source="[?]", at_least=1, at_most=200
    )
    caption_cache: str = setting(
        AUTO,
        "folder where captions are kept by picture and captioner, for all runs; off = nowhere; "
        "auto = $GENDATAAGENT_CACHE, else the user's cache folder",
        affects_results=False,
    )
    rewriter: str = setting(
        AUTO,
        "visible-attributes (bundled, no model), none (keep the caption), a hub id or path of a "
        "causal language model of transformers, or endpoint: an OpenAI-compatible server; auto = "
        "visible-attributes",
        source="Llama-2 [R]; size open [?]",
    )
    rewriter_revision: str = setting("", "hub revision of the rewriter; empty = the newest")
    rewrites: int = setting(
        5,
        "rewrites (= images) of each selected picture, m",
        source="5 at share 1/5 makes 1x the training set [I]",
        at_least=1,
    )
    rewrite_temperature: float = setting(
        0.7, "how freely the language model chooses words; 0 = its likeliest", source="[?]",
        at_least=0, at_most=2,
    )  # fmt: skip
    rewrite_top_p: float = setting(
        0.9, "share of probability words are drawn from", source="[?]", above=0, at_most=1
    )
    rewrite_words: int = setting(
        30, "longest rewrite that passes the guard", unit="word", at_least=3, at_most=60
    )
    rewrite_tries: int = setting(
        3,
        "times the language model is asked before the template rewriter takes over",
        at_least=1,
        at_most=20,
    )
    batch_size: int = setting(
        8, "pictures or conversations a captioner or language model works on at once", at_least=1
    )
    dtype: str = setting(
        AUTO,
        "of captioner and language model: auto = float16 on a GPU, float32 on a CPU",
        choices=(AUTO, "float16", "bfloat16", "float32"),
    )
    endpoint_url: str = setting(
        "", "base address of the OpenAI-compatible server, such as http://localhost:8000/v1"
    )
    endpoint_model: str = setting("", "name of the model to ask the server for")
    endpoint_key_variable: str = setting(
        "OPENAI_API_KEY", "environment variable that holds the server's key, if it wants one"
    )
    endpoint_timeout_s: float = setting(
        60.0, "longest wait for one answer", unit="s", above=0, affects_results=False
    )
    endpoint_concurrency: int = setting(
        4, "questions under way at once", at_least=1, at_most=256, affects_results=False
    )
    endpoint_retries: int = setting(
        4, "times a failed question is asked again, waiting longer each time", at_least=0,
        at_most=20, affects_results=False,
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationConfig:
    """The diffusion model and how it is run."""

    generator: str = setting(
        AUTO,
        "tiny-sd (bundled, 32 px, for trying out), or a hub id or path of an image-to-image "
        "pipeline of diffusers; auto = SD 1.5 with a GPU and its weights at hand, else tiny-sd",
        source="Stable Diffusion 1.5 [S]",
    )
    revision: str = setting(
        "", "hub revision; empty = for SD 1.5 the one this was built for, else the newest"
    )
    variant: str = setting("", "file variant on the hub, such as fp16; empty = the plain files")
    lora: str = setting(
        "",
        "LoRA weights to generate with: a safetensors file, a folder, OWNER/NAME or "
        "OWNER/NAME/FILE.safetensors of the hub; empty = none",
    )
    lora_scale: float = setting(
        0.5, "strength of the LoRA when generating", source="0.5 [C]", at_least=0, at_most=2
    )
    size_px: int = setting(
        0, "side of the square pictures made; 0 = the model's own", unit="px", source="512 [C]",
        at_least=0,
    )  # fmt: skip
    strength: float = setting(
        0.75,
        "share of the noise schedule put on the real picture's latent: 0 = the picture, 1 = from "
        "text alone",
        source="0.50 / 0.75 / 0.90 swept [S]",
        above=0,
        at_most=1,
    )
    guidance_scale: float = setting(
        7.5, "classifier-free guidance", source="7.5 augmenting, 2.0 synthetic only [S]", at_least=0
    )
    num_inference_steps: int = setting(
        30,
        "scheduler steps; floor(steps * strength) are executed",
        source="30 [C]",
        at_least=1,
    )
    negative_prompt: str = setting(
        "distorted, unrealistic, blurry, out of frame", "what to steer away from", source="[S]"
    )
    scheduler: str = setting(
        AUTO,
        "name of a diffusers scheduler class, with its step spacing if wanted "
        "(DDIMScheduler:trailing); auto = UniPCMultistepScheduler, or the model's own where that "
        "was made for few steps or flow matching",
        source="UniPC [C]",
    )
    batch_size: int = setting(
        16,
        "pictures handed to the generator at a time; it draws 8 at once, whatever this is",
        at_least=1,
        affects_results=False,
    )
    image_cache: str = setting(
        "",
        "folder where images are kept for all runs that ask for the very same; empty = nowhere",
        affects_results=False,
    )
    workers: int = setting(
        0, "processes that make pictures; 0 = this one", at_least=0, affects_results=False
    )
    dtype: str = setting(
        AUTO,
        "auto = float16 on a GPU, float32 on a CPU",
        source="fp16 [C]",
        choices=(AUTO, "float16", "bfloat16", "float32"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptationConfig:
    """Fitting the generator to the real training images by LoRA, before training begins.

    Recipe: Real-Fake (Yuan et al., ICLR 2024) as its released code has it.
    """

    enabled: bool = setting(False, "adapt the generator first", source="true [S]")
    rank: int = setting(4, "rank of the LoRA matrices", source="4 [C]", at_least=1)
    epochs: int = setting(100, "passes over the training images", source="100 [C]", at_least=1)
    batch_size: int = setting(8, "images a step", source="8 [C]", at_least=1)
    learning_rate: float = setting(1e-4, "constant, of AdamW", source="1e-4 [C]", above=0)
    weight_decay: float = setting(1e-2, "of AdamW", source="1e-2 [C]", at_least=0)
    gradient_clip: float = setting(1.0, "largest gradient norm", source="1.0 [C]", above=0)
    snr_gamma: float = setting(
        5.0, "min-SNR loss weight: min(SNR, this) / SNR; 0 = every timestep weighs 1",
        source="5 [C]", at_least=0,
    )  # fmt: skip
    mmd_weight: float = setting(
        0.003,
        "weight of the distribution-matching term: the squared error of the batch's weighted sums",
        source="0.003 [C]",
        at_least=0,
    )
    size_px: int = setting(
        0, "side of the training pictures; 0 = the generator's own", unit="px", source="512 [C]",
        at_least=0,
    )  # fmt: skip
    random_crop: bool = setting(True, "crop at random, else at the centre", source="[C]")
    flip: bool = setting(True, "mirror half of the pictures", source="[C]")
    gradient_checkpointing: str = setting(
        AUTO,
        "compute activations again instead of keeping them: auto = on a GPU of at most 16 GB",
        choices=(AUTO, "on", "off"),
        affects_results=False,
    )
    mixed_precision: str = setting(
        AUTO, "auto = fp16 on a GPU, none on a CPU", source="fp16 [C]",
        choices=(AUTO, "no", "fp16", "bf16"),
    )  # fmt: skip
    sample_every_epochs: int = setting(
        10, "epochs between sample pictures; 0 = none", at_least=0, affects_results=False
    )
    checkpoint_every_steps: int = setting(
        200, "steps between checkpoints to resume from", at_least=1, affects_results=False
    )
    measure_images: int = setting(
        200,
        "pictures made before and after to measure the distance to the real ones; 0 = do not",
        at_least=0,
        affects_results=False,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterConfig:
    """Which synthetic images go into training."""

    by: str = setting(
        "vog",
        "vog: variance of gradients; knn: mean cosine similarity to the nearest real images in the "
        "classifier's feature space; agreement: how likely the classifier finds the class it was "
        "made for; random: drawn by seed; none: keep all",
        source="vog [S]; knn as the paper compares it [R]",
    )
    drop_share: float = setting(
        0.25,
        "share of each class's synthetic images dropped",
        source="25 / 50 / 75 % swept [S]",
        at_least=0,
        at_most=0.99,
    )
    keep: str = setting(
        "high", "which end of the scores is kept", source="high [R]; see docs/method.md",
        choices=("high", "low"),
    )  # fmt: skip
    checkpoint_marks: tuple[float, ...] = setting(
        (0.05, 0.1, 0.15),
        "shares of the epochs after which a checkpoint for VoG is kept",
        source="epochs 10, 20, 30 of 200 [R]",
    )
    min_checkpoints: int = setting(
        2, "with fewer checkpoints VoG keeps everything, and says so", source="[?]", at_least=2
    )
    neighbours: int = setting(
        15, "nearest real images that knn looks at", source="15 [R]", at_least=1
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """All settings of a run."""

    seed: int = setting(0, "everything random is derived from it", at_least=0)
    device: str = setting(
        AUTO, "cpu, cuda, cuda:1, mps; auto = the best there is", affects_results=False
    )
    threads: int = setting(
        0, "CPU threads for torch; 0 = as torch decides", at_least=0, affects_results=False
    )
    trust_remote_code: bool = setting(
        False, "run Python code that comes with a model from the hub; true only if you have read it"
    )
    data: DataConfig = field(default_factory=DataConfig)
    classifier: ClassifierConfig = field(default_factory=ClassifierConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    agent: AgentConfig = field(default_factory=AgentConfig)
    selection: SelectionConfig = field(default_factory=SelectionConfig)
    prompting: PromptingConfig = field(default_factory=PromptingConfig)
    generation: GenerationConfig = field(default_factory=GenerationConfig)
    adaptation: AdaptationConfig = field(default_factory=AdaptationConfig)
    filter: FilterConfig = field(default_factory=FilterConfig)

    @classmethod
    def from_dict(cls, tree: Mapping[str, Any], *checks: ConfigCheck) -> Self:
        """Return the config of a nested mapping; raise `ConfigError` with every problem found.

        Args:
            checks: further checks (such as `components.problems`) whose findings are added.
        """
        problems: list[str] = []
        config = cast(Self, build(cls, tree, "", problems))
        for check in (_cross_checks, *checks):
            problems.extend(check(config))
        if problems:
            raise ConfigError(problems)
        return config

    @classmethod
    def from_toml(
        cls, path: str | Path, overrides: Sequence[str] = (), *checks: ConfigCheck
    ) -> Self:
        """Return the config of a TOML file with `section.key=value` overrides on top."""
        return cls.from_dict(apply_overrides(read_toml(path), overrides), *checks)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as nested plain values (tuples become lists)."""
        return cast(dict[str, Any], plain(self))

    def to_toml(self) -> str:
        """Return the settings as TOML that `from_toml` reads back to an equal config."""
        return tomli_w.dumps(self.to_dict())

    def results_hash(self) -> str:
        """Return a hash of every setting that can change a result."""
        tree = {
            row.key: row.value if not isinstance(row.value, tuple) else list(row.value)
            for row in iterate_settings(self)
            if row.setting.affects_results
        }
        return hashlib.blake2b(
            json.dumps(tree, sort_keys=True).encode(), digest_size=16
        ).hexdigest()


def _cross_checks(config: RunConfig) -> Iterator[str]:
    """Yield problems that concern more than one setting."""
    agent, training = config.agent, config.training
    if agent.enabled and agent.first_round_epoch >= training.epochs:
        yield (
            f"agent.first_round_epoch ({agent.first_round_epoch}) must be below training.epochs "
            f"({training.epochs}), or no round ever happens"
        )
    epochs_left = training.epochs - max(0, agent.first_round_epoch)
    if agent.enabled and 0 < epochs_left < agent.rounds:
        yield (
            f"agent.rounds ({agent.rounds}) must be at most training.epochs - "
            f"agent.first_round_epoch ({epochs_left}): at most one round stands before an epoch"
        )
    if config.adaptation.enabled and config.generation.lora:
        yield (
            "adaptation.enabled makes LoRA weights of its own, and generation.lora names others; "
            "use one of the two"
        )
    prompting = config.prompting
    if prompting.rewriter == "endpoint":
        for key in ("endpoint_url", "endpoint_model"):
            if not getattr(prompting, key):
                yield f"prompting.{key} must be given for prompting.rewriter = endpoint"
    if math.floor(config.generation.num_inference_steps * config.generation.strength) < 1:
        yield (
            "generation.num_inference_steps * generation.strength must be at least 1 executed step,"
            f" got {config.generation.num_inference_steps} * {config.generation.strength:g}"
        )
    for key, marks in (
        ("training.decay_milestones", training.decay_milestones),
        ("filter.checkpoint_marks", config.filter.checkpoint_marks),
    ):
        if any(not 0 < mark <= 1 for mark in marks) or list(marks) != sorted(set(marks)):
            yield f"{key} must be increasing shares of the epochs in (0, 1], got {list(marks)}"
    if config.data.validation_share + config.data.test_share > 0.8:
        yield (
            "data.validation_share + data.test_share must leave at least 0.2 for training, got "
            f"{config.data.validation_share:g} + {config.data.test_share:g}"
        )


ConfigCheck = Callable[[RunConfig], Iterable[str]]
