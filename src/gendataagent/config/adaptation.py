"""[adaptation]: fitting the generator to the real images, by LoRA or by words of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gendataagent.config.generation import GenerationConfig
from gendataagent.config.settings import setting
from gendataagent.core.devices import AUTO
from gendataagent.core.records import RETRIEVAL

LORA, TOKENS, LORA_AND_TOKENS = "lora", "tokens", "lora+tokens"
_NAMED = ("lora", "class_loras", "class_tokens")  # settings that name what an adaptation makes


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptationConfig:
    """Adapting the generator to the real training images, before training begins.

    Recipe of the LoRA: the released code of Real-Fake (Yuan et al., ICLR 2024). Of the class
    tokens, which are textual inversion (Gal et al., ICLR 2023): that of DA-Fusion (Trabucco et al.,
    ICLR 2024).
    """

    enabled: bool = setting(False, "adapt the generator before training", source="true [S]")
    kind: str = setting(
        LORA,
        "what is trained: lora = LoRA matrices of the denoiser; tokens = a word of its own for "
        "each class, the generator itself unchanged (textual inversion); lora+tokens = both at "
        "once",
        choices=(LORA, TOKENS, LORA_AND_TOKENS),
        switch=True,
    )
    per_class: bool = setting(
        False,
        "a LoRA for each class, on its own images, instead of one for all; needs kind = lora",
        switch=True,
    )
    token_vectors: int = setting(
        1, "embeddings that make up the word of a class", source="1 [C]", at_least=1, at_most=16,
        switch=True,
    )  # fmt: skip
    token_steps: int = setting(
        1000,
        "with kind = tokens: steps on each class, of batch_size of its images; with lora+tokens "
        "epochs counts",
        source="1,000 of 4 images [C]",
        at_least=1,
        switch=True,
    )
    token_learning_rate: float = setting(
        2e-3, "of AdamW, for the words of the classes", source="5e-4 x 4 images [C]", above=0,
        switch=True,
    )  # fmt: skip
    rank: int = setting(4, "rank of the LoRA matrices", source="4 [C]", at_least=1)
    epochs: int = setting(100, "passes over the training images", source="100 [C]", at_least=1)
    batch_size: int = setting(8, "images per step", source="8 [C]", at_least=1)
    learning_rate: float = setting(1e-4, "of AdamW, constant", source="1e-4 [C]", above=0)
    weight_decay: float = setting(1e-2, "of AdamW", source="1e-2 [C]", at_least=0)
    gradient_clip: float = setting(1.0, "maximum gradient norm", source="1.0 [C]", above=0)
    snr_gamma: float = setting(
        5.0, "min-SNR loss weight: min(SNR, this) / SNR; 0 = weight 1 for every timestep",
        source="5 [C]", at_least=0,
    )  # fmt: skip
    mmd_weight: float = setting(
        0.003,
        "weight of the distribution-matching term: the squared error of the batch's weighted sums",
        source="0.003 [C]",
        at_least=0,
    )
    size_px: int = setting(
        0, "side of the training images; 0 = the generator's own", unit="px", source="512 [C]",
        at_least=0,
    )  # fmt: skip
    random_crop: bool = setting(True, "crop at random, else at the centre", source="[C]")
    flip: bool = setting(True, "flip half of the images left to right", source="[C]")
    gradient_checkpointing: str = setting(
        AUTO,
        "recompute activations to save memory; auto = on for a GPU of at most 16 GB",
        choices=(AUTO, "on", "off"),
        affects_results=False,
    )
    mixed_precision: str = setting(
        AUTO,
        "auto = fp16 on a CUDA GPU, bf16 on a CPU with AMX or AVX512-BF16, else no; fixed when the "
        "run is made",
        source="fp16 [C]",
        choices=(AUTO, "no", "fp16", "bf16"),
    )
    sample_every_epochs: int = setting(
        10, "epochs between sample images; 0 = none", at_least=0, affects_results=False
    )
    checkpoint_every_steps: int = setting(
        200, "steps between checkpoints to resume from", at_least=1, affects_results=False
    )
    measure_images: int = setting(
        200,
        "images generated before and after, to measure the distance to real ones; 0 = none",
        at_least=0,
        affects_results=False,
    )

    @property
    def trains_lora(self) -> bool:
        """Whether LoRA matrices are trained."""
        return self.kind != TOKENS

    @property
    def trains_tokens(self) -> bool:
        """Whether words of the classes are trained."""
        return self.kind != LORA

    @property
    def makes(self) -> tuple[str, ...]:
        """The settings of [generation] that name what it makes."""
        lora = ("class_loras",) if self.per_class else ("lora",)
        return {
            LORA: lora,
            TOKENS: ("class_tokens",),
            LORA_AND_TOKENS: (*lora, "class_tokens"),
        }[self.kind]


def adaptation_problems(settings: AdaptationConfig, generation: GenerationConfig) -> Iterator[str]:
    """Yield what is wrong with the adaptation, and with it beside the generator."""
    own_loras = bool(generation.class_loras)
    if settings.enabled:
        own_loras = settings.per_class
        if settings.per_class and settings.trains_tokens:
            yield (
                "adaptation.per_class trains a LoRA for each class and needs adaptation.kind = "
                f"lora, got {settings.kind}; a word of its own each class has anyway"
            )
        for name in _NAMED:
            if getattr(generation, name):
                yield (
                    f"adaptation.enabled trains weights for the generator, but generation.{name} "
                    "names others; use one of the two"
                )
        if generation.generator == RETRIEVAL:
            yield (
                "adaptation.enabled adapts a generator, but generation.generator = retrieval only "
                "finds images; set adaptation.enabled=false"
            )
    if own_loras and generation.fuse_qkv:
        yield (
            "generation.fuse_qkv joins the weights that the LoRA of each class changes; set "
            "generation.fuse_qkv=false"
        )
