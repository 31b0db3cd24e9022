"""Feedback on one pipeline: its decoder, the guide's weights, and the steering of a call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gendataagent.core.checkpoints import load_weights
from gendataagent.core.errors import GenerationError, RunFolderError
from gendataagent.core.files import file_sha256
from gendataagent.core.protocols import Feedback, Guide, RenderRequest
from gendataagent.generation.diffusion.steerable import check_steerable
from gendataagent.generation.feedback import criterion_of
from gendataagent.generation.feedback.decoding import decoder_of
from gendataagent.generation.feedback.steering import Steering, steered


class Steerer:
    """Steers the calls of a pipeline by a guide, whose weights it reads from the requests' file.

    Args:
        decoder: see `generation.feedback.decoding.decoder_of`.

    Raises:
        ModelError: the pipeline's scheduler cannot be steered, or the decoder does not fit.
    """

    def __init__(self, pipeline: Any, guide: Guide, *, decoder: str, size_px: int) -> None:
        check_steerable(pipeline.scheduler, pipeline.vae, type(pipeline).__name__)
        self._pipeline, self._guide = pipeline, guide
        self._decode = decoder_of(pipeline, decoder, size_px)
        # Of half types only bfloat16, whose range is that of float32.
        is_bfloat16 = pipeline.vae.dtype == torch.bfloat16
        self._dtype = torch.bfloat16 if is_bfloat16 else torch.float32
        self._loaded: tuple[str, Mapping[str, Tensor]] | None = None

    def steering(self, requests: Sequence[RenderRequest]) -> AbstractContextManager[None]:
        """Return a context in which the pipeline's call for `requests` is steered.

        The requests share everything of their feedback but the label.

        Raises:
            GenerationError: the guide's weights are missing or have changed.
        """
        feedback = _feedback_of(requests[0])
        criterion = criterion_of(feedback.criterion)
        device = self._pipeline._execution_device
        labels_B = torch.tensor([_feedback_of(r).label for r in requests], device=device)
        weights = self._weights(feedback, device)

        def value(images_BCHW: Tensor) -> Tensor:
            assert criterion is not None
            views = len(images_BCHW) // len(labels_B)
            return criterion(self._guide.logits(images_BCHW, weights), labels_B.repeat(views))

        first, last = feedback.steps
        steering = Steering(
            feedback.scale, feedback.views, first, last, tuple(r.seed for r in requests)
        )
        return steered(
            self._pipeline.scheduler, self._decode, value if criterion else None, steering
        )

    def _weights(self, feedback: Feedback, device: torch.device) -> Mapping[str, Tensor]:
        if self._loaded is None or self._loaded[0] != feedback.guide:
            path = Path(feedback.guide_file)
            try:
                if file_sha256(path) != feedback.guide:
                    raise GenerationError(
                        f"the weights of the guiding classifier in {path} have changed since they "
                        "were written; resume the run, which writes them again"
                    )
                # Not as inference tensors, which gradients cannot pass through.
                with torch.inference_mode(False):
                    weights = {
                        name: tensor.to(device, self._dtype if tensor.is_floating_point() else None)
                        for name, tensor in load_weights(path).items()
                    }
            except (OSError, RunFolderError) as error:
                raise GenerationError(
                    f"the weights of the guiding classifier cannot be read: {error}; resume the "
                    "run, which writes them again"
                ) from error
            self._loaded = (feedback.guide, weights)
        return self._loaded[1]


def _feedback_of(request: RenderRequest) -> Feedback:
    if request.feedback is None:
        raise GenerationError("a request without feedback is among those that are steered")
    return request.feedback
