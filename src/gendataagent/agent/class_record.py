"""The class names that an agent's folder was started with: its records hold labels as numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gendataagent.core.errors import RunFolderError
from gendataagent.core.rows import read_record
from gendataagent.core.run_folder import RunFolder
from gendataagent.data.labels import both_lists, in_order


@dataclass(frozen=True, slots=True)
class ClassRecord:
    """The content of `RunFolder.classes_file`: class names in label order."""

    class_names: tuple[str, ...]


def check_class_names(folder: RunFolder, class_names: Sequence[str]) -> None:
    """Record the class names of a new folder; compare them with those of an old one.

    Raises:
        RunFolderError: the folder was started with other classes, or in another order.
    """
    if folder.manifest_file.exists():
        known: Sequence[str] = folder.read_manifest().class_names
    elif folder.classes_file.exists():
        known = read_record(ClassRecord, folder.classes_file).class_names
    else:
        folder.write_json(folder.classes_file, {"class_names": list(class_names)})
        return
    if not in_order(class_names, known):
        lists = both_lists("the train set", class_names, "the run", known)
        raise RunFolderError(
            f"the run in {folder.path} was started with other classes, or with another order of "
            f"them: {lists}. Use that order, or start a new run in another folder"
        )
