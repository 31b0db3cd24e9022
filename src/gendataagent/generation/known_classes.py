"""The classes of a generator that knows a closed list of them, found in the names of a data set."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gendataagent.core.text import as_name
from gendataagent.generation.diffusion.mirrors import STABLE_DIFFUSION_15
from gendataagent.generation.english import plural, singular, word_set
from gendataagent.generation.tiny.model import MODEL_NAME
from gendataagent.generation.tiny.vocabulary import CLASSES

# Generator -> its word for a class -> other names of the same class.
_LISTS: Mapping[str, Mapping[str, tuple[str, ...]]] = {MODEL_NAME: CLASSES}
_BETWEEN_NAMES = re.compile(r"[,;/|()\[\]]")  # "airliner, plane", "car (automobile)"
_CAPITAL_AFTER_SMALL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_SHOWN = 5  # names in a sentence
_LETTERS = re.compile(r"[^\W\d_]+")
_SAYING_NOTHING = word_set("a an the of class image images photo photos picture pictures")


@dataclass(frozen=True, slots=True)
class KnownClasses:
    """Which classes of a data set a generator with a closed list can draw.

    Args:
        generator: its name in the settings.
        listed: every class on its list, in its words.
        word_of: class name of the data set -> the generator's word for it.
        unknown: class names that are not on the list, in label order.
    """

    generator: str
    listed: tuple[str, ...]
    word_of: Mapping[str, str]
    unknown: tuple[str, ...]

    @property
    def warning(self) -> str:
        """What to expect of it where it cannot draw all classes."""
        drawn, classes = len(self.word_of), len(self.word_of) + len(self.unknown)
        some = ", ".join(map(as_name, self.unknown[:_SHOWN]))
        more = f" and {len(self.unknown) - _SHOWN} more" if len(self.unknown) > _SHOWN else ""
        return (
            f"{drawn} of your {classes} classes {'is' if drawn == 1 else 'are'} among the "
            f"{len(self.listed)} that {self.generator} can draw ({', '.join(self.listed)}); expect "
            f"harm from its images of the others: {some}{more}. Use a generator that knows them, "
            f"on a GPU: --generator {STABLE_DIFFUSION_15}; or train without synthetic images: "
            "--set agent.enabled=false."
        )


def known_classes(generator: str, class_names: Sequence[str]) -> KnownClasses | None:
    """Return which classes a generator can draw; None if it has no closed list.

    Singular and plural, upper and lower case, underscores, numbers and the other names on the list
    are one name. Two classes with one word are both unknown: the generator cannot draw the
    difference.

    Args:
        generator: `generation.generator`, not auto.
    """
    listed = _LISTS.get(generator)
    if listed is None:
        return None
    table = {key: word for word, others in listed.items() for name in (word, *others)
             for key in (_joined(name), _joined(plural(name)))}  # fmt: skip
    found = {name: word for name in class_names if (word := _word(name, table))}
    uses = Counter(found.values())
    word_of = {name: word for name, word in found.items() if uses[word] == 1}
    unknown = tuple(name for name in class_names if name not in word_of)
    return KnownClasses(generator, tuple(listed), word_of, unknown)


def words_for(generator: str, class_names: Sequence[str]) -> Mapping[str, str]:
    """Return class name -> the generator's word for it, only where it has its own."""
    known = known_classes(generator, class_names)
    return known.word_of if known else {}


def _word(name: str, table: Mapping[str, str]) -> str | None:
    """Return the word of a class name or of one of the names it lists."""
    text = _CAPITAL_AFTER_SMALL.sub(" ", unicodedata.normalize("NFKC", name))
    for part in (text, *_BETWEEN_NAMES.split(text)):
        words = [word for word in _LETTERS.findall(part.casefold()) if word not in _SAYING_NOTHING]
        if not words:
            continue
        for last in (words[-1], singular(words[-1])):
            if word := table.get("".join((*words[:-1], last))):
                return word
    return None


def _joined(name: str) -> str:
    return name.replace(" ", "")
