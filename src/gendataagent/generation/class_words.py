"""What the classes are called in the prompts of a generator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gendataagent.config import GenerationConfig
from gendataagent.core.errors import ConfigError
from gendataagent.generation.backends import GeneratorFactory
from gendataagent.generation.known_classes import words_for


def class_words(
    generator: GeneratorFactory, class_names: Sequence[str], settings: GenerationConfig
) -> Mapping[str, str]:
    """Return class name -> the generator's word for it in prompts, where it has its own.

    Raises:
        ConfigError: it was adapted, class by class, and not to one of these classes; or the
            settings name words or LoRAs of classes, which it cannot use.
    """
    words = words_for(generator.describe().name, class_names)
    own = getattr(generator, "class_words", None)
    if own is not None:
        return {**words, **own(class_names)}
    for name in ("class_tokens", "class_loras"):
        if getattr(settings, name):
            raise ConfigError(
                f"generation.{name} needs a diffusion generator; {type(generator).__name__} has no "
                "class_words. Leave it empty, or name a Stable Diffusion"
            )
    return words
