"""Words of its own for each class: the file of embeddings that textual inversion has learned.

The file has one tensor `PART:CLASS` of shape [V, D] for each class and text encoder of the
pipeline: V vectors make up the word. Its metadata lists the classes, by name.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gendataagent.core import hub
from gendataagent.core.errors import ConfigError, ModelError
from gendataagent.core.files import expand, parse_others_json
from gendataagent.core.text import as_name, counted
from gendataagent.core.weight_files import StoredTensor, metadata_of, stored_in

SETTING = "generation.class_tokens"
FILE_NAME = "class_tokens.safetensors"
PARTS = ("text_encoder", "text_encoder_2")
CLASSES = "classes"  # key of the metadata
_AGAIN = "put it back from a copy, or run gendataagent adapt again"


@dataclass(frozen=True, slots=True)
class ClassTokens:
    """The words of a file, by its header.

    Args:
        classes: names of the classes.
        widths: text encoder -> D.
        vectors: V.
    """

    path: Path
    classes: tuple[str, ...]
    widths: Mapping[str, int]
    vectors: int

    @property
    def token_of(self) -> Mapping[str, str]:
        """Class name -> its word in prompts."""
        return token_names(self.classes)

    def words(self, class_names: Sequence[str]) -> Mapping[str, str]:
        """Return class name -> word, of exactly these classes.

        Raises:
            ConfigError: a class has none.
        """
        check_classes(SETTING, self.path, self.classes, class_names, "word")
        return {name: self.token_of[name] for name in class_names}


def check_classes(
    setting: str, path: Path, its: Sequence[str], wanted: Sequence[str], what: str
) -> None:
    """Raise `ConfigError` if a file made for some classes lacks one of the data."""
    missing = [name for name in wanted if name not in its]
    if missing:
        raise ConfigError(
            f"{setting}: {path} has no {what} for {counted(len(missing), 'class', 'classes')} of "
            f"the data, such as {as_name(missing[0])}; it was made for "
            f"{', '.join(map(as_name, its[:5]))}{' ...' if len(its) > 5 else ''}. Adapt to these "
            "data, or give the classes the names they had"
        )


def token_names(class_names: Sequence[str]) -> dict[str, str]:
    """Return class name -> its word: "Golden retriever" -> "<golden-retriever>".

    Text encoders ignore case, so a word that two names would share, and that of a name without
    Latin letters and digits, has a hash of the name in it.
    """
    plain = {name: _plain(name) for name in class_names}
    uses = Counter(plain.values())
    own = {
        name: word if word and uses[word] == 1 else f"{word or 'class'}-{_hash(name)}"
        for name, word in plain.items()
    }
    return {name: f"<{word}>" for name, word in own.items()}


def _plain(name: str) -> str:
    letters = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", letters).strip("-")


def _hash(name: str) -> str:
    return hashlib.blake2b(name.encode(), digest_size=4).hexdigest()


def find_class_tokens(name: str) -> Path:
    """Return the file that the setting names, itself or by its folder.

    Raises:
        ModelError: there is none.
    """
    path = expand(name)
    path = path / FILE_NAME if path.is_dir() else path
    if not path.is_file():
        raise ModelError(
            f"{SETTING}: there is no file {path}; name a folder in which gendataagent adapt with "
            "adaptation.kind=tokens has finished"
        )
    return path


def class_tokens_revision(name: str) -> str:
    """Return what identifies the words: a hash of their file."""
    return hub.file_hash(find_class_tokens(name))


def read_class_tokens(name: str) -> ClassTokens:
    """Return the words that the setting names; only the header of the file is read.

    Raises:
        ModelError: there is no such file, or it is not whole.
    """
    path = find_class_tokens(name)
    hub.check_file(SETTING, path)
    tensors, classes = stored_in(path), _classes(path)
    parts = sorted({part for key in tensors if (part := key.partition(":")[0]) in PARTS})
    expected = {f"{part}:{name}" for part in parts for name in classes}
    if not parts or (missing := sorted(expected - set(tensors))):
        lacks = f"lacks {missing[0]!r}" if parts else "holds no embeddings"
        raise ModelError(f"{SETTING}: {path} is not whole: it {lacks}; {_AGAIN}")
    if further := sorted(set(tensors) - expected):
        raise ModelError(
            f"{SETTING}: {path} holds {further[0]!r}, which belongs to none of its classes; "
            f"{_AGAIN}"
        )
    vectors = {tensors[key].shape[:1] for key in expected}
    widths = {part: _width(path, tensors, part) for part in parts}
    if len(vectors) != 1:
        raise ModelError(f"{SETTING}: {path} has words of different lengths; {_AGAIN}")
    return ClassTokens(path, classes, widths, vectors.pop()[0])


def _classes(path: Path) -> tuple[str, ...]:
    """Return the classes that the metadata lists."""
    try:
        names = parse_others_json(metadata_of(path).get(CLASSES, ""))
    except ValueError:
        names = None
    is_list = isinstance(names, list) and names and all(isinstance(name, str) for name in names)
    if not is_list or len(set(names)) != len(names):
        raise ModelError(
            f"{SETTING}: {path} lists no classes, so it was not written by gendataagent adapt; "
            "name its folder"
        )
    return tuple(names)


def _width(path: Path, tensors: Mapping[str, StoredTensor], part: str) -> int:
    shapes = {each.shape for key, each in tensors.items() if key.startswith(f"{part}:")}
    if len(shapes) != 1 or len(shape := shapes.pop()) != 2 or not all(shape):
        raise ModelError(
            f"{SETTING}: the embeddings of {part} in {path} are of different shapes, or none; "
            f"{_AGAIN}"
        )
    return shape[1]
