"""Captioner and language model on workers: the same texts as in this process, in order."""

from __future__ import annotations

import functools
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gendataagent.core.errors import ModelError
from gendataagent.core.hub import ModelSource
from gendataagent.core.protocols import CaptionRequest
from gendataagent.generation.caption_cache import CachedCaptioner
from gendataagent.generation.captioning import ImageToTextCaptioner
from gendataagent.generation.executors import ProcessExecutor, SerialExecutor
from gendataagent.generation.executors.worker import SharedExecutor
from gendataagent.generation.language.conversation import Conversation, Message
from gendataagent.generation.language.local import KIND, LocalChat
from gendataagent.generation.pooled import PooledCaptioner, PooledChat
from tests.generation.test_language_local import chat, conversation
from tests.tiny_captioners import save_tiny_captioner
from tests.tiny_language import save_tiny_llama

pytestmark = pytest.mark.integration

EXECUTORS: dict[str, Callable[[], SharedExecutor]] = {
    "serial": SerialExecutor,
    "process": functools.partial(ProcessExecutor, 2),
}


@pytest.fixture(params=["serial", pytest.param("process", marks=pytest.mark.slow)])
def executor(request: pytest.FixtureRequest) -> SharedExecutor:
    return EXECUTORS[request.param]()


def requests() -> list[CaptionRequest]:
    noise = np.random.default_rng(0).integers(0, 256, (5, 40, 40, 3), dtype=np.uint8)
    return [
        CaptionRequest(image=Image.fromarray(pixels), class_name="cat", seed=seed)
        for seed, pixels in enumerate(noise)
    ]


def captioner(folder: Path) -> ImageToTextCaptioner:
    source = ModelSource(setting="prompting.captioner", kind="a captioner", name=str(folder))
    return ImageToTextCaptioner(source, batch_size=2, max_tokens=6)


def test_captions_of_workers_are_those_of_this_process_and_are_cached(
    executor: SharedExecutor, tmp_path: Path
) -> None:
    folder = save_tiny_captioner(tmp_path / "model", "blip")
    expected = captioner(folder).caption(requests())
    assert len(set(expected)) > 1
    sent = pickle.loads(pickle.dumps(captioner(folder)))
    pooled = PooledCaptioner(sent, executor, batch_size=2)
    cached = CachedCaptioner(pooled, tmp_path / "cache")
    assert cached.caption(requests()) == expected
    cached.release()
    again = CachedCaptioner(captioner(folder), tmp_path / "cache")
    assert again.caption(requests()) == expected
    assert again.made == 0


def test_answers_of_workers_are_those_of_this_process(
    executor: SharedExecutor, tmp_path: Path
) -> None:
    folder = save_tiny_llama(tmp_path / "model")
    asked = [conversation(f"cat number {number}") for number in range(5)]
    expected = chat(folder).complete(asked, range(5))
    pooled = PooledChat(pickle.loads(pickle.dumps(chat(folder))), executor, batch_size=4)
    assert (pooled.name, pooled.revision) == (chat(folder).name, chat(folder).revision)
    assert pooled.complete(asked, range(5)) == expected
    assert pooled.complete([], []) == []
    pooled.release()


def test_a_model_that_cannot_be_loaded_is_reported_as_in_this_process(
    executor: SharedExecutor, tmp_path: Path
) -> None:
    source = ModelSource(setting="prompting.rewriter", kind=KIND, name=str(tmp_path / "nowhere"))
    local = LocalChat(source, device="cpu", batch_size=4, temperature=0.7, top_p=0.9)
    pooled = PooledChat(local, executor, batch_size=4)
    asked = Conversation(messages=(Message("user", "a"),), tokens_at_most=4, stop=())
    with pytest.raises(ModelError) as alone:
        local.complete([asked], [0])
    with pytest.raises(ModelError) as caught:
        pooled.complete([asked], [0])
    assert str(caught.value) == str(alone.value)
