"""Images whose file names say the class: cat_0001.jpg, train/dog.12.jpg."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gendataagent.config import DataConfig
from gendataagent.core.errors import ConfigError, DataError
from gendataagent.core.text import counted
from gendataagent.data.formats.folder import FolderStore
from gendataagent.data.formats.walk import Found, posix_path
from gendataagent.data.index import TRAIN, DatasetIndex, Item, first_few, splits_of_folders
from gendataagent.data.labels import class_name_of, is_unlabelled
from gendataagent.data.name_patterns import USUAL_NAME, names_by_setting


def index_named_files(
    root: Path, found: Found, config: DataConfig, *, need_train: bool = True
) -> DatasetIndex:
    """Return the images of a folder by data.class_pattern; ids are paths, sorted.

    Splits are those of folders (train/, test/), if every image is in one.

    Raises:
        ConfigError: the pattern is no regular expression, or fits no image.
        DataError: there are splits but no train.
    """
    setting = "data.class_pattern"
    files = {posix_path(image): image for image in found.images}
    fitting = names_by_setting(setting, config.class_pattern, USUAL_NAME, sorted(files))
    names = {id_: class_name_of(name) for id_, name in fitting.items()}
    names = {id_: name for id_, name in names.items() if not is_unlabelled(name)}
    if not names:
        raise ConfigError(
            f"{setting} {config.class_pattern!r} fits no image in {root}, such as "
            f"{first_few(sorted(files), at_most=3) or 'none'}; give a pattern whose first bracket "
            f"is the class, such as {USUAL_NAME}"
        )
    splits = splits_of_folders(list(names)) or [TRAIN] * len(names)
    if need_train and TRAIN not in splits:
        raise DataError(f"{root} has splits, but no image of train; name that folder train")
    notes = [*found.notes(), _note(sorted(set(names.values())))]
    if others := sorted(files.keys() - names.keys()):
        images = counted(len(others), "image", "images")
        notes.append(f"Left out {images} that {setting} does not fit: {first_few(others)}.")
    return DatasetIndex(
        store=FolderStore(str(root), tuple(files[id_] for id_ in names)),
        items=tuple(
            Item(row, id_, name, split)
            for row, ((id_, name), split) in enumerate(zip(names.items(), splits, strict=True))
        ),
        class_names=tuple(sorted(set(names.values()))),
        quarantined=tuple(found.quarantined),
        notes=tuple(notes),
    )


def _note(classes: Sequence[str]) -> str:
    number = counted(len(classes), "class", "classes")
    return f"Read {number} from the names of the files (data.class_pattern): {first_few(classes)}."
