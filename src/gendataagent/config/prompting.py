"""[prompting]: captions, rewrites and the models that write them."""

from __future__ import annotations

from dataclasses import dataclass

from gendataagent.config.settings import setting
from gendataagent.core.devices import AUTO


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptingConfig:
    """Captions, rewrites and the models that write them."""

    captioner: str = setting(
        AUTO,
        "visible-attributes (bundled, no model), none (only the class name), or hub id or path of "
        "an image-to-text model of transformers; auto = visible-attributes",
        source="BLIP-2 [S]; which one is open [?]",
        path=True,
        names=(AUTO, "visible-attributes", "none"),
    )
    captioner_revision: str = setting("", "hub revision of the captioner; empty = the newest")
    caption_prompt: str = setting(
        "", "text for the captioner to continue or answer; empty = none, as BLIP-2 expects"
    )
    caption_tokens: int = setting(
        40, "maximum length of a caption", unit="token", source="[?]", at_least=1, at_most=200
    )
    caption_cache: str = setting(
        AUTO,
        "folder that keeps captions by image and captioner, for all runs; off = none; auto = "
        "$GENDATAAGENT_CACHE, else the user's cache folder",
        affects_results=False,
        path=True,
        names=(AUTO, "off"),
    )
    rewriter: str = setting(
        AUTO,
        "visible-attributes (bundled, no model), none (keep the caption), contexts (the caption of "
        "any image of the round), scenes (a place and a light instead of the caption), hub id or "
        "path of a causal language model of transformers, or endpoint: an OpenAI-compatible "
        "server; auto = visible-attributes",
        source="Llama-2 [R]; size open [?]",
        path=True,
        names=(AUTO, "visible-attributes", "contexts", "scenes", "none", "endpoint"),
    )
    rewriter_revision: str = setting("", "hub revision of the rewriter; empty = the newest")
    rewrites: int = setting(
        5,
        "rewrites, and so synthetic images, of each selected image (m)",
        source="5 at share 1/5 makes 1x the training set [I]",
        at_least=1,
    )
    rewrite_temperature: float = setting(
        0.7, "sampling temperature of the language model; 0 = greedy", source="[?]",
        at_least=0, at_most=2,
    )  # fmt: skip
    rewrite_top_p: float = setting(
        0.9, "nucleus sampling: probability mass to draw from", source="[?]", above=0, at_most=1
    )
    batch_size: int = setting(
        8, "images or conversations per batch of captioner or language model", at_least=1
    )
    dtype: str = setting(
        AUTO,
        "dtype of captioner and language model; auto = float16 on a GPU, float32 on a CPU, fixed "
        "when the run is made",
        choices=(AUTO, "float16", "bfloat16", "float32"),
    )
    endpoint_url: str = setting(
        "", "base URL of the OpenAI-compatible server, such as http://localhost:8000/v1"
    )
    endpoint_model: str = setting("", "the server's name of the model")
    endpoint_key_variable: str = setting(
        "OPENAI_API_KEY", "environment variable with the server's key, if it needs one"
    )
    endpoint_timeout_s: float = setting(
        60.0, "timeout of one request", unit="s", above=0, affects_results=False
    )
    endpoint_concurrency: int = setting(
        4, "requests in progress at once", at_least=1, at_most=256, affects_results=False
    )
    endpoint_retries: int = setting(
        4, "retries of a failed request, with growing waits", at_least=0,
        at_most=20, affects_results=False,
    )  # fmt: skip
