"""LoRA layers in a pipeline's UNet: add, restore, save and remove them."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from gendataagent.core.errors import ModelError
from gendataagent.core.files import write_bytes
from gendataagent.generation.adaptation.learned import Frozen, Learned

ADAPTER = "adaptation"
TARGETS = (
    "to_q",
    "to_k",
    "to_v",
    "to_out.0",
)  # the attention projections, as in Real-Fake's code [C]
WEIGHTS_FILE = "pytorch_lora_weights.safetensors"  # the name that diffusers loads


class LoraLayers(Learned):
    """Trainable low-rank matrices beside the attention projections of a UNet.

    Initialised on the CPU from `seed`, in single precision, so that every device starts with the
    same values. `remove` undoes everything: layers, requires_grad, training mode, checkpointing.

    Raises:
        ModelError: the UNet has LoRA layers already, or cannot take any.
    """

    what, made_for, size = "the LoRA weights", "UNet", "rank"

    def __init__(
        self, pipeline: Any, *, rank: int, seed: int, gradient_checkpointing: bool = False
    ) -> None:
        from peft import LoraConfig

        super().__init__()
        check_adaptable(pipeline)
        self._pipeline = pipeline
        self._unet = pipeline.unet
        self._frozen = Frozen(pipeline, ["unet"], gradient_checkpointing=gradient_checkpointing)
        config = LoraConfig(
            r=rank, lora_alpha=rank, init_lora_weights=True, target_modules=list(TARGETS)
        )
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                self._unet.add_adapter(config, adapter_name=ADAPTER)
        except ValueError as error:
            self.remove()
            raise ModelError(
                f"generation.generator: its UNet takes no LoRA at {', '.join(TARGETS)}: {error}"
            ) from error
        for name, parameter in self._unet.named_parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
                self.parameters[name] = parameter

    @property
    def changed(self) -> bool:
        """Whether training has changed them; the B matrix of each pair starts at zero."""
        return any(bool(p.any()) for n, p in self.parameters.items() if ".lora_B." in n)

    def save(self, folder: Path) -> Path:
        """Write `WEIGHTS_FILE` in diffusers' format, atomically; return its path.

        Raises:
            ModelError: training did not change them, or the file differs from them.
        """
        from diffusers.utils import convert_state_dict_to_diffusers
        from peft.utils import get_peft_model_state_dict
        from safetensors.torch import load_file

        if not self.changed:
            raise ModelError(
                "the LoRA weights did not change in training; raise adaptation.learning_rate or "
                "adaptation.epochs, with fp16 also try adaptation.mixed_precision=no"
            )
        layers = convert_state_dict_to_diffusers(
            get_peft_model_state_dict(self._unet, adapter_name=ADAPTER)
        )
        layers = {name: tensor.detach().cpu().contiguous() for name, tensor in layers.items()}
        with TemporaryDirectory() as temporary:
            self._pipeline.save_lora_weights(
                temporary,
                unet_lora_layers=layers,
                weight_name=WEIGHTS_FILE,
                safe_serialization=True,
            )
            written = load_file(Path(temporary, WEIGHTS_FILE))
            same = len(written) == len(self.parameters) and all(
                torch.equal(written[f"unet.{name}"], tensor) for name, tensor in layers.items()
            )
            if not same:
                raise ModelError(
                    "the LoRA file that diffusers wrote differs from the trained weights; check "
                    "that the installed versions of diffusers and peft fit together"
                )
            write_bytes(folder / WEIGHTS_FILE, Path(temporary, WEIGHTS_FILE).read_bytes())
        return folder / WEIGHTS_FILE

    def remove(self) -> None:
        """Remove the layers and restore the UNet; calling it twice is harmless."""
        self._unet.unload_lora()
        self._frozen.restore()


def check_adaptable(pipeline: Any) -> None:
    """Raise `ModelError` for a pipeline that cannot be adapted with this loss and these inputs."""
    prefix = "generation.generator: cannot adapt"
    missing = [
        part for part in ("unet", "vae", "text_encoder", "tokenizer")
        if getattr(pipeline, part, None) is None
    ]  # fmt: skip
    if missing:
        raise ModelError(
            f"{prefix} a {type(pipeline).__name__}: it has no {' and no '.join(missing)}; name a "
            "Stable Diffusion 1, 2 or XL"
        )
    config = pipeline.unet.config
    if getattr(pipeline.unet, "peft_config", None):
        raise ModelError(
            f"{prefix} a UNet that already has LoRA layers; leave generation.lora empty, or call "
            "pipeline.unload_lora_weights() first"
        )
    if config.in_channels != pipeline.vae.config.latent_channels:
        raise ModelError(
            f"{prefix} a UNet of {config.in_channels} input channels with latents of "
            f"{pipeline.vae.config.latent_channels} (one for inpainting or upscaling?)"
        )
    if config.time_cond_proj_dim is not None:
        raise ModelError(
            f"{prefix} a few-step model with distilled guidance; adapt the model it was distilled "
            "from"
        )
    for name, allowed in (
        ("class_embed_type", (None,)),
        ("encoder_hid_dim_type", (None,)),
        ("addition_embed_type", (None, "text_time")),
    ):
        if config.get(name) not in allowed:
            raise ModelError(
                f"{prefix} a UNet with {name}={config.get(name)!r}; name a Stable Diffusion 1, 2 "
                "or XL"
            )
    if config.addition_embed_type == "text_time" and not _is_sdxl_base(pipeline):
        raise ModelError(f"{prefix} an SDXL refiner; name the base model")


def _is_sdxl_base(pipeline: Any) -> bool:
    """Return whether its extra conditioning is that of SDXL base: pooled text and six sizes."""
    if getattr(pipeline, "text_encoder_2", None) is None:
        return False
    config = pipeline.unet.config
    width = config.addition_time_embed_dim * 6 + pipeline.text_encoder_2.config.projection_dim
    return bool(width == config.projection_class_embeddings_input_dim)
