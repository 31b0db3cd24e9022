"""[adaptation]: fitting the generator to the real images by LoRA."""

from __future__ import annotations

from dataclasses import dataclass

from gendataagent.config.settings import setting
from gendataagent.core.devices import AUTO


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptationConfig:
    """Adapting the generator to the real training images by LoRA, before training begins.

    Recipe: the released code of Real-Fake (Yuan et al., ICLR 2024).
    """

    enabled: bool = setting(False, "adapt the generator before training", source="true [S]")
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
