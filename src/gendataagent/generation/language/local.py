"""A causal language model of transformers on this machine."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from gendataagent.config import AUTO
from gendataagent.core import hub
from gendataagent.core.completeness import Lacks, check_auto, check_finite
from gendataagent.core.devices import BatchSize, free_memory, resolve_dtype
from gendataagent.core.errors import ModelError
from gendataagent.core.hub import ModelSource
from gendataagent.generation.language.conversation import Conversation, Message
from gendataagent.generation.language.parsing import without_cut_end
from gendataagent.generation.language.quantised import (
    check_quantised,
    load_quantised,
    quantised_file,
)
from gendataagent.generation.language.sampling import RowSampler, RowStops

PADDED_TO = 64
KIND = "a causal language model of transformers"


@dataclass(frozen=True, slots=True)
class _Loaded:
    tokenizer: Any
    model: Any


@dataclass(frozen=True, slots=True)
class Written:
    """An answer up to its stop text.

    Args:
        is_cut: its token limit ended it, in the middle of a line.
    """

    text: str
    is_cut: bool


class LocalChat:
    """Answers with a causal language model: hub id, folder, or GGUF file.

    Matrix and attention kernels round differently for other shapes. So a batch always has
    `batch_size` rows (the last repeated where fewer are left), and a prompt is always padded on the
    left to the next multiple of `PADDED_TO` tokens, by at least one token: a batch without any
    padding would use other kernels than one with padding. An answer is then the same to the bit
    whatever else is in its batch. Batches are smaller only on a device with too little memory.

    Args:
        dtype: torch dtype by name; auto = float16 on a GPU, float32 on a CPU.
    """

    def __init__(
        self,
        source: ModelSource,
        *,
        device: str,
        batch_size: int,
        temperature: float,
        top_p: float,
        dtype: str = AUTO,
    ) -> None:
        self._source = source
        self._device = torch.device(device)
        self._dtype = resolve_dtype(dtype, self._device)
        self._batch_size = BatchSize(
            batch_size,
            too_large=f"the device has not enough memory for {self.name} to write a single answer; "
            "name a smaller model with prompting.rewriter, or set prompting.dtype=float16",
        )
        self._temperature = temperature
        self._top_p = top_p
        self._loaded: _Loaded | None = None

    @property
    def name(self) -> str:
        """File or folder name, or the hub id."""
        file = quantised_file(self._source.name)
        if file is not None:
            return file.name
        folder = self._source.folder
        return folder.resolve().name if folder is not None else self._source.name

    @property
    def notes(self) -> tuple[str, ...]:
        """Nothing: there is no server."""
        return ()

    @functools.cached_property
    def revision(self) -> str:
        """A hash of the files on this machine, or the hub's commit."""
        file = quantised_file(self._source.name)
        return hub.file_hash(file) if file is not None else hub.revision_of(self._source)

    def check(self) -> None:
        """Raise `ModelError` for faults that show without loading weights, a tokenizer that does
        not fit among them.
        """
        file = quantised_file(self._source.name)
        if file is not None:
            check_quantised(self._source, file)
            return
        hub.check(self._source)
        tokenizer = hub.load(self._source, AutoTokenizer.from_pretrained)
        config = hub.load(self._source, AutoConfig.from_pretrained)
        self._check_kind(config)
        self._check_tokenizer(tokenizer, config.get_text_config().vocab_size)
        check_auto(self._source, AutoModelForCausalLM, config)

    def complete(self, conversations: Sequence[Conversation], seeds: Sequence[int]) -> list[str]:
        """Return one answer per conversation, in order, without an unfinished last line.

        Raises:
            ModelError, GenerationError: the model cannot be loaded, or not answer.
        """
        return [
            without_cut_end(written.text) if written.is_cut else written.text
            for written in self.write(conversations, seeds)
        ]

    def write(self, conversations: Sequence[Conversation], seeds: Sequence[int]) -> list[Written]:
        """Return the text of each answer, and whether its token limit cut it off; as `complete`."""
        if not conversations:
            return []
        loaded = self._load()
        prompts = [_prompt_ids(loaded.tokenizer, c.messages) for c in conversations]
        for ids, conversation in zip(prompts, conversations, strict=True):
            self._check_length(loaded.model, len(ids) + conversation.tokens_at_most)
        alike: dict[int, list[int]] = {}
        for position, ids in enumerate(prompts):
            alike.setdefault(_padded_length(len(ids)), []).append(position)
        answers: dict[int, Written] = {}
        for length, alike_here in alike.items():

            def generate(group: Sequence[int], length: int = length) -> list[Written]:
                padded = [*group, *[group[-1]] * (self._batch_size.size - len(group))]
                texts = self._generate(
                    loaded,
                    [prompts[i] for i in padded],
                    [conversations[i] for i in padded],
                    [seeds[i] for i in padded],
                    length,
                )
                return texts[: len(group)]

            answers.update(zip(alike_here, self._batch_size.map(generate, alike_here), strict=True))
        return [answers[position] for position in range(len(conversations))]

    def release(self) -> None:
        """Release the model; it is loaded again when needed."""
        self._loaded = None
        free_memory()

    @torch.inference_mode()
    def _generate(
        self,
        loaded: _Loaded,
        prompts: Sequence[Sequence[int]],
        conversations: Sequence[Conversation],
        seeds: Sequence[int],
        length: int,
    ) -> list[Written]:
        filler = loaded.model.generation_config.pad_token_id
        missing = [length - len(ids) for ids in prompts]
        ids_BL = torch.tensor(
            [[filler] * n + list(ids) for n, ids in zip(missing, prompts, strict=True)]
        )
        mask_BL = torch.tensor([[0] * n + [1] * (length - n) for n in missing])
        tokens_at_most = [c.tokens_at_most for c in conversations]
        stops = [c.stop for c in conversations]
        output_BL = loaded.model.generate(
            input_ids=ids_BL.to(self._device),
            attention_mask=mask_BL.to(self._device),
            max_new_tokens=max(tokens_at_most),
            logits_processor=[RowSampler(seeds, temperature=self._temperature, top_p=self._top_p)],
            stopping_criteria=[
                RowStops(loaded.tokenizer, length, tokens_at_most=tokens_at_most, stops=stops)
            ],
        )
        texts = loaded.tokenizer.batch_decode(output_BL[:, length:], skip_special_tokens=True)
        ends = loaded.model.generation_config.eos_token_id
        ends = ends if isinstance(ends, list) else [ends]
        return [
            _until_stop(text, stop, at_limit=len(ids) >= most and not set(ids[:most]) & set(ends))
            for text, ids, most, stop in zip(
                texts, output_BL[:, length:].tolist(), tokens_at_most, stops, strict=True
            )
        ]

    def _load(self) -> _Loaded:
        if self._loaded is None:
            self._loaded = self._load_now()
        return self._loaded

    def _load_now(self) -> _Loaded:
        _quiet()
        file = quantised_file(self._source.name)
        if file is not None:
            tokenizer, model, report = load_quantised(self._source, file, self._dtype)
        else:
            tokenizer = hub.load(self._source, AutoTokenizer.from_pretrained)
            model, report = hub.load(
                self._source,
                functools.partial(
                    AutoModelForCausalLM.from_pretrained,
                    dtype=self._dtype,
                    use_safetensors=True,
                    ignore_mismatched_sizes=True,  # to name them
                    output_loading_info=True,
                ),
            )
        if lacks := Lacks.of_report(model, report):
            where = f"the weights of {self._source.name}"
            raise ModelError(f"{self._source.setting}: {lacks.sentence(where)}")
        check_finite(f"{self._source.setting}: {self._source.name}", model)
        self._check_tokenizer(tokenizer, model.get_input_embeddings().num_embeddings)
        # Sampling is done by RowSampler; of the model's own settings only the end tokens are kept.
        ends = model.generation_config.eos_token_id
        ends = tokenizer.eos_token_id if ends is None else ends
        filler = tokenizer.pad_token_id
        if filler is None:
            filler = ends[0] if isinstance(ends, list) else (ends or 0)
        model.generation_config = GenerationConfig(
            do_sample=False, eos_token_id=ends, pad_token_id=filler
        )
        return _Loaded(tokenizer, model.to(self._device).eval())

    def _check_kind(self, config: Any) -> None:
        has_own_code = getattr(config, "auto_map", None)  # a kind unknown to transformers
        if config.model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and not has_own_code:
            raise ModelError(
                f"{self._source.setting}: {self._source.name} is a {config.model_type}, which is "
                f"not {KIND}; set one, such as HuggingFaceTB/SmolLM2-135M-Instruct. "
                f"{self._source.instead}".rstrip()
            )

    def _check_tokenizer(self, tokenizer: Any, embeddings: int) -> None:
        if len(tokenizer) > embeddings:
            raise ModelError(
                f"{self._source.setting}: the tokenizer of {self._source.name} has "
                f"{len(tokenizer)} tokens but its model only {embeddings}, so it belongs to "
                "another model; download the model again with its own tokenizer"
            )

    def _check_length(self, model: Any, tokens: int) -> None:
        most = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        if most is not None and tokens > most:
            raise ModelError(
                f"{self._source.setting}: {self._source.name} reads {most} tokens, but a request "
                f"with its answer may need {tokens}; lower prompting.rewrites, or set another model"
            )


def _padded_length(tokens: int) -> int:
    return (tokens // PADDED_TO + 1) * PADDED_TO


def _prompt_ids(tokenizer: Any, messages: Sequence[Message]) -> list[int]:
    """Return the tokens of a conversation in the model's own chat format."""
    text = rendered(tokenizer, messages)
    ids: list[int] = tokenizer(text, add_special_tokens=not tokenizer.chat_template)["input_ids"]
    return ids


def rendered(tokenizer: Any, messages: Sequence[Message]) -> str:
    """Return a conversation in the model's chat format, up to the start of its answer.

    If the chat template has no system role, the system message goes into the first user message; a
    model without a template gets plain text.
    """
    if not tokenizer.chat_template:
        turns = [f"{message.role.capitalize()}:\n{message.content}" for message in messages]
        return "\n\n".join([*turns, "Assistant:\n"])
    from jinja2 import TemplateError

    render = functools.partial(
        tokenizer.apply_chat_template,
        tokenize=False,
        add_generation_prompt=True,
        enable_thinking=False,  # for the templates of reasoning models; others ignore it
    )
    plain = [{"role": m.role, "content": m.content} for m in messages]
    try:
        return str(render(plain))
    except TemplateError:
        system, first, *others = plain
        merged = {"role": "user", "content": f"{system['content']}\n\n{first['content']}"}
        return str(render([merged, *others]))


def _until_stop(text: str, stops: Sequence[str], *, at_limit: bool) -> Written:
    ends = [place for stop in stops if (place := text.find(stop)) >= 0]
    return Written(text[: min(ends)], is_cut=False) if ends else Written(text, is_cut=at_limit)


def _quiet() -> None:
    """Switch off transformers' messages and progress bars about loading."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
