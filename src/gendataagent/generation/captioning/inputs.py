"""One image as the inputs of an image-to-text model."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from PIL import Image

from gendataagent.generation.captioning.loading import Parts

QUESTION = (
    "Describe this image in one short phrase of at most fifteen words: colours, pose, "
    "surroundings, light. Reply with the phrase alone."
)
# Processors confuse the axes of an image one pixel high, and enlarge narrow strips enormously.
LEAST_SIDE_PX = 32
LONGEST_SIDE_SHARE = 8

Inputs = Mapping[str, torch.Tensor]
Layout = tuple[tuple[str, tuple[int, ...], bytes], ...]


def encode(image: Image.Image, parts: Parts, prompt: str) -> Inputs:
    """Return the model's inputs for an image, each with a batch axis of size 1.

    Processors know their model's format of image and text; a few kinds need the text arranged.

    Args:
        prompt: text for the model to continue or answer; "" = none, or `QUESTION` in a chat.
    """
    if parts.processor is None:
        encoded = dict(parts.image_processor(images=image, return_tensors="pt"))
        if prompt:
            ids = parts.tokenizer(prompt, add_special_tokens=False).input_ids
            encoded["decoder_input_ids"] = torch.tensor(
                [[parts.config.decoder_start_token_id, *ids]]
            )
    elif parts.chat_template is not None:
        content = [{"type": "image", "image": image}, {"type": "text", "text": prompt or QUESTION}]
        encoded = parts.processor.apply_chat_template(
            [{"role": "user", "content": content}],
            chat_template=parts.chat_template,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        )
    else:
        text = {"text": prompt} if prompt else {}
        encoded = dict(parts.processor(images=image, return_tensors="pt", **text))
        encoded.pop("token_type_ids", None)
        if text and parts.config.model_type == "git":  # it would continue after its end token
            for name in ("input_ids", "attention_mask"):
                encoded[name] = encoded[name][:, :-1]
    return {name: value for name, value in encoded.items() if isinstance(value, torch.Tensor)}


def layout_of(inputs: Inputs) -> Layout:
    """Return what inputs of one batch must share: names, shapes, and all values but pixels."""
    return tuple(
        (name, tuple(value.shape), b"" if value.is_floating_point() else value.numpy().tobytes())
        for name, value in sorted(inputs.items())
    )


def prepare(image: Image.Image) -> Image.Image:
    """Return the image in RGB; a very narrow one is cropped, a tiny one enlarged."""
    if image.mode != "RGB":  # not from this package's data sets
        from gendataagent.data.decoding.images import to_rgb

        image = to_rgb(image)
    width, height = image.size
    longest = LONGEST_SIDE_SHARE * min(width, height)
    if max(width, height) > longest:
        left, top = max(0, width - longest) // 2, max(0, height - longest) // 2
        image = image.crop((left, top, left + min(width, longest), top + min(height, longest)))
    shorter = min(image.size)
    if shorter < LEAST_SIDE_PX:
        width, height = (round(side * LEAST_SIDE_PX / shorter) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    return image
