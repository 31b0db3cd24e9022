"""Measure token merging on the UNet of Stable Diffusion 1.5, with random weights.

    python scripts/full_size/merge_tokens.py --device cpu --size-px 512
    python scripts/full_size/merge_tokens.py --device cuda --batch 16

Prints the median seconds of a forward pass for each share of `generation.merge_tokens`, in turns so
that a slow moment of the machine falls on all of them: processor time on a CPU, elapsed on a GPU.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence

import torch
from architectures import CONFIGS, build

from gendataagent.core.devices import image_dtype_name, torch_dtype
from gendataagent.generation.diffusion.token_merging import MergedAttention, mergeable


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a line for each share."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--scale", choices=("full", "tiny"), default="full")
    parser.add_argument("--size-px", type=int, default=512)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.0, 0.25, 0.5, 0.75])
    options = parser.parse_args(arguments)
    dtype = torch_dtype(image_dtype_name("auto", options.device))
    torch.manual_seed(0)
    narrow = CONFIGS["tiny"]["unet"] if options.scale == "tiny" else {}
    unet = build(CONFIGS["full"]["unet"] | narrow).to(options.device, dtype).eval()
    side = options.size_px // 8
    latents = torch.randn(options.batch, 4, side, side).to(options.device, dtype)
    text = torch.randn(options.batch, 77, unet.config.cross_attention_dim).to(latents)
    layers = mergeable(unet)
    plain = [layer.processor for layer in layers]

    def seconds(share: float) -> float:
        for layer, own in zip(layers, plain, strict=True):
            layer.set_processor(MergedAttention(own, share) if share else own)
        _wait(options.device)
        clock = time.process_time if options.device == "cpu" else time.perf_counter
        started = clock()
        with torch.inference_mode():
            unet(latents, 500, text)
        _wait(options.device)
        return clock() - started

    seconds(0.0)  # not counted: the first call chooses kernels
    taken: dict[float, list[float]] = {share: [] for share in options.shares}
    for _ in range(options.repetitions):
        for share, times in taken.items():
            times.append(seconds(share))
    base = statistics.median(taken[options.shares[0]])
    print(f"{len(layers)} layers, {dtype}, batch {options.batch}, {options.size_px} px")
    for share, times in taken.items():
        middle = statistics.median(times)
        spread = f"{min(times):.3f} to {max(times):.3f}"
        print(f"share {share:4.2f}: {middle:7.3f} s ({spread}), {100 * middle / base:5.1f} %")
    return 0


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    raise SystemExit(main())
