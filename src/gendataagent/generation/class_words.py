"""What the classes are called in the prompts of a generator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gendataagent.generation.backends import GeneratorFactory
from gendataagent.generation.known_classes import words_for


def class_words(generator: GeneratorFactory, class_names: Sequence[str]) -> Mapping[str, str]:
    """Return class name -> the generator's word for it in prompts, where it has its own.

    Raises:
        ConfigError: it was adapted, class by class, and not to one of these classes.
    """
    own = getattr(generator, "class_words", None)
    words = words_for(generator.describe().name, class_names)
    return {**words, **own(class_names)} if own is not None else words
