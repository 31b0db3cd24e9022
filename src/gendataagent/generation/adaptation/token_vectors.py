"""Trainable words of the classes in the text encoders of a pipeline (textual inversion).

Gal et al., ICLR 2023: only the embedding of a new word is learned, by the loss of the denoiser;
everything else is frozen.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from gendataagent.core.errors import ModelError
from gendataagent.core.files import write_bytes
from gendataagent.core.text import as_name
from gendataagent.generation.adaptation.learned import Frozen, Learned
from gendataagent.generation.diffusion.class_tokens import CLASSES, FILE_NAME, token_names
from gendataagent.generation.diffusion.token_embeddings import (
    AddedTokens,
    check_takes_tokens,
    text_parts,
)


class TokenVectors(Learned):
    """A word of `vectors` embeddings for each class, first like the words that name it.

    Args:
        words: class name -> words that name it for the generator.

    Raises:
        ModelError: the pipeline cannot have further words.
    """

    what, made_for, size = "the words of the classes", "data set or generator", "length or width"

    def __init__(
        self,
        pipeline: Any,
        words: Mapping[str, str],
        *,
        vectors: int,
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        check_takes_tokens(pipeline)
        parts, tokens = text_parts(pipeline), token_names(tuple(words))
        self._classes = tuple(words)
        initial = {
            part: {
                tokens[name]: _like(pipeline, part, text, vectors) for name, text in words.items()
            }
            for part in parts
        }
        self._frozen = Frozen(
            pipeline, ("unet", *parts), gradient_checkpointing=gradient_checkpointing
        )
        self._added = AddedTokens(pipeline, initial)
        for part, embedding in self._added.embeddings.items():
            for name, parameter in zip(self._classes, embedding.words, strict=True):
                self.parameters[f"{part}:{name}"] = parameter
        self._initial = self.tensors()

    def save(self, folder: Path) -> Path:
        """Write `FILE_NAME`, atomically; return its path.

        Raises:
            ModelError: training did not change the word of a class.
        """
        learned = self.tensors()
        for name in self._classes:
            own = [key for key in learned if key.partition(":")[2] == name]
            if all(torch.equal(learned[key], self._initial[key]) for key in own):
                raise ModelError(
                    f"the word of {as_name(name)} did not change in training; raise "
                    "adaptation.token_learning_rate, adaptation.token_steps or adaptation.epochs, "
                    "with fp16 also try adaptation.mixed_precision=no"
                )
        content = safetensors.torch.save(learned, metadata={CLASSES: json.dumps(self._classes)})
        write_bytes(folder / FILE_NAME, content)
        return folder / FILE_NAME

    def remove(self) -> None:
        """Restore tokenizers and text encoders; calling it twice is harmless."""
        self._added.remove()
        self._frozen.restore()


def _like(pipeline: Any, part: str, text: str, vectors: int) -> Tensor:
    """Return the embeddings of a text's tokens, [V, D], in single precision on their device.

    Where there are more tokens than vectors, each vector is their mean; where there are fewer, the
    rest are.
    """
    tokenizer = getattr(pipeline, part.replace("text_encoder", "tokenizer"))
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    table_ND = getattr(pipeline, part).get_input_embeddings().weight.detach().float()
    own_ND = table_ND[torch.tensor(ids, dtype=torch.long, device=table_ND.device)]
    if not len(own_ND):  # a name without a letter
        own_ND = table_ND.mean(dim=0, keepdim=True)
    mean_1D = own_ND.mean(dim=0, keepdim=True)
    if len(own_ND) > vectors:
        own_ND = own_ND[:0]
    return torch.cat([own_ND, mean_1D.expand(vectors - len(own_ND), -1)]).clone()
