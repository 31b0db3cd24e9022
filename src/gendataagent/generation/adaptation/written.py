"""What an adaptation has written, loaded again into a pipeline for a while."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from gendataagent.generation.adaptation.job import AdaptationJob
from gendataagent.generation.adaptation.lora_layers import WEIGHTS_FILE
from gendataagent.generation.diffusion.class_loras import ClassLoraSwitch, read_class_loras
from gendataagent.generation.diffusion.class_tokens import read_class_tokens
from gendataagent.generation.diffusion.token_embeddings import add_class_tokens


@contextlib.contextmanager
def with_written(pipeline: Any, job: AdaptationJob) -> Iterator[Callable[[str], None] | None]:
    """Load the LoRAs and the words of a finished training, as any user would.

    Yields:
        What chooses the class whose LoRA is used; None where there is one for all or none.
    """
    settings, folder = job.config.adaptation, str(job.folder)
    scale = job.config.generation.lora_scale
    with contextlib.ExitStack() as undo:
        choose = None
        if settings.trains_tokens:
            undo.callback(add_class_tokens(pipeline, read_class_tokens(folder)).remove)
        if settings.per_class:
            switch = ClassLoraSwitch(pipeline, read_class_loras(folder), scale)
            undo.callback(switch.remove)
            choose = switch.use
        elif settings.trains_lora:
            pipeline.load_lora_weights(folder, weight_name=WEIGHTS_FILE, adapter_name="written")
            undo.callback(pipeline.unload_lora_weights)
            pipeline.set_adapters("written", scale)
        yield choose
