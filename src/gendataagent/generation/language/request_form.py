"""The form of a request that a server takes, learned from what it refuses.

Servers differ in the optional parameters: OpenAI's reasoning models want max_completion_tokens and
no temperature, others know no seed or no stop, some chat formats have no system message.
"""

from __future__ import annotations

import re
import threading
from typing import Any

from gendataagent.config import PromptingConfig
from gendataagent.generation.language.conversation import Conversation
from gendataagent.generation.language.server_words import named_in_error, parameter_of_error

SEED_BITS = 31  # what every server accepts: llama.cpp reads 32 bits, unsigned
# Tokens for thoughts before the answer, tried in this order when an answer ends in its thoughts.
ROOM_FOR_THOUGHTS = (0, 2048, 8192)
# The least important first: of several that are named, one is left out at a time.
_OPTIONAL = (
    "seed", "stop", "top_p", "temperature", "stream", "max_completion_tokens", "max_tokens",
)  # fmt: skip
_NO_SYSTEM_ROLE = re.compile(
    r"\bsystem\b.{0,40}\b(?:role|message|prompt|instruction)|\brole\b.{0,30}\bsystem\b"
    r"|\b(?:system|developer) (?:role|message|instruction)|roles? must alternate"
    r"|only user and assistant roles",
    re.I,
)

_ONLY_STREAMS = re.compile(
    r"only support\w*.{0,20}stream|stream\w*\W{0,3}.{0,12}(?:must|has to|needs to|should) be.{0,12}"
    r"(?:true|enabled)|enable.{0,8}stream|requires?.{0,8}stream"
    r"|non-?stream\w*.{0,20}(?:not|un)\s?(?:supported|allowed)",
    re.I,
)


class RequestForm:
    """Builds requests; what a server refuses is left out of all later ones. Thread-safe.

    Attributes:
        notes: sentences for the user about what was changed.
    """

    def __init__(self, settings: PromptingConfig) -> None:
        self._settings = settings
        self._left_out: set[str] = set()
        self._length_name = "max_tokens"
        self._system_role = True
        self._room = 0
        self._stream = False
        self._lock = threading.Lock()
        self.notes: list[str] = []

    def request(self, conversation: Conversation, seed: int) -> dict[str, Any]:
        """Return the body of a request."""
        room = ROOM_FOR_THOUGHTS[self._room]
        body: dict[str, Any] = {
            "model": self._settings.endpoint_model,
            "messages": self._messages(conversation),
            self._length_name: conversation.tokens_at_most + room,
            "temperature": self._settings.rewrite_temperature,
            "top_p": self._settings.rewrite_top_p,
            "seed": seed & ((1 << SEED_BITS) - 1),
            "stream": self._stream,
        }
        if conversation.stop and not room:  # thoughts have numbered lines too
            body["stop"] = list(conversation.stop)
        return {name: value for name, value in body.items() if name not in self._left_out}

    def learn(self, request: dict[str, Any], error_body: bytes) -> bool:
        """Return whether a refused request can be asked again in another form.

        Args:
            error_body: the refusal; it has to name what is refused.
        """
        text, field = named_in_error(error_body), parameter_of_error(error_body)
        with self._lock:
            if "max_tokens" in request and "max_completion_tokens" in text:
                self._rename_length()
                return True
            if request.get("stream") is False and _ONLY_STREAMS.search(text):
                self._stream = True
                self.notes.append(f"{self._server} only streams; asked for that.")
                return True
            named = [name for name in _OPTIONAL if _is_word(name, text)]
            for name in [*([field] if field in _OPTIONAL else []), *named]:
                if name in request:
                    self._leave_out(name)
                    return True
            has_system = any(message["role"] == "system" for message in request["messages"])
            if has_system and _NO_SYSTEM_ROLE.search(text):
                if self._system_role:
                    self._system_role = False
                    self.notes.append(f"{self._server} takes no system message; asked without one.")
                return True
        return False

    def bare(self, request: dict[str, Any]) -> dict[str, Any] | None:
        """Return a refused request without optional parameters, None if it has none.

        For servers that do not say what they refuse; call `settle_on_bare` if it is answered.
        """
        left = {name: value for name, value in request.items() if name not in _OPTIONAL}
        return left if len(left) < len(request) else None

    def settle_on_bare(self, request: dict[str, Any]) -> None:
        """Leave out all optional parameters of a request from now on."""
        with self._lock:
            for name in _OPTIONAL:
                if name in request:
                    self._leave_out(name)

    def make_room(self, request: dict[str, Any]) -> bool:
        """Return whether a request that ended in thoughts can be asked again with more room."""
        asked = request.get(self._length_name)
        with self._lock:
            if asked is None or self._room + 1 >= len(ROOM_FOR_THOUGHTS):
                return False
            self._room += 1
            if self._room == 1:
                self.notes.append(
                    f"{self.model} thinks before it answers: up to {ROOM_FOR_THOUGHTS[1]:,} tokens "
                    f"and more are left for that in each request to {self._server}."
                )
            return True

    @property
    def model(self) -> str:
        """The server's name of the model."""
        return self._settings.endpoint_model

    @property
    def _server(self) -> str:
        return f"the server {self._settings.endpoint_url}"

    def _messages(self, conversation: Conversation) -> list[dict[str, str]]:
        messages = [{"role": m.role, "content": m.content} for m in conversation.messages]
        if self._system_role or messages[0]["role"] != "system":
            return messages
        system, first, *others = messages
        merged = f"{system['content']}\n\n{first['content']}"
        return [{"role": "user", "content": merged}, *others]

    def _rename_length(self) -> None:
        self._length_name = "max_completion_tokens"

    def _leave_out(self, name: str) -> None:
        if name not in self._left_out:
            self._left_out.add(name)
            self.notes.append(f"{self._server} refuses {name}; asked without it.")


def _is_word(name: str, text: str) -> bool:
    """Return whether a parameter's name stands in a text of any script, not inside a longer one."""
    return re.search(rf"(?<![A-Za-z0-9_]){name}(?![A-Za-z0-9_])", text) is not None
