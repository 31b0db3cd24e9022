"""From class name and caption to a prompt."""

from __future__ import annotations

from gendataagent.core.text import normalize_whitespace
from gendataagent.data.class_names import readable_class_name

# The format of the paper [S]; the class name leads because captioners miss fine-grained names and
# text encoders cut long prompts at the end.
PROMPT_FORMAT = "A photo of {class_name}, which is {caption}"
PROMPT_WITHOUT_CAPTION = "A photo of {class_name}"


def compose_prompt(class_name: str, caption: str) -> str:
    """Return the prompt of a caption; without a caption it is the class name alone."""
    words = normalize_whitespace(caption).rstrip(". ")
    name = readable_class_name(normalize_whitespace(class_name))
    if not words:
        return PROMPT_WITHOUT_CAPTION.format(class_name=name)
    return PROMPT_FORMAT.format(class_name=name, caption=words)
