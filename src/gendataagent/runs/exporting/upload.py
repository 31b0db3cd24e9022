"""Upload of an export to the Hugging Face Hub, to a private repository unless asked otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gendataagent.core.errors import ConfigError, StorageError
from gendataagent.core.secrets import shown
from gendataagent.data.index import first_few
from gendataagent.runs.exporting.place import MARK, sums_of

MODEL, DATASET = "model", "dataset"
_FROM_THE_HUB = ".gitattributes"  # it writes this file into every new repository
_OPTION = "--push-to-hub"


def check_upload(repo: str, kind: str) -> None:
    """Check, before anything is written, that an export may be uploaded.

    Args:
        repo: USER/NAME.
        kind: MODEL or DATASET.

    Raises:
        ConfigError: it is no such name, no one is logged in, or the Hub is switched off.
        StorageError: the Hub cannot be reached, or the repository holds something else.
    """
    from huggingface_hub import HfApi, constants, get_token
    from huggingface_hub.errors import HFValidationError

    if "/" not in repo:
        raise ConfigError(f"{_OPTION} {repo}: whose repository? Give USER/NAME")
    if constants.HF_HUB_OFFLINE:
        raise ConfigError(f"{_OPTION} needs the Hub, but HF_HUB_OFFLINE is set; unset it")
    if get_token() is None:
        raise ConfigError(f"{_OPTION} needs a login: hf auth login (or set HF_TOKEN)")
    api = HfApi()
    try:
        if not api.repo_exists(repo, repo_type=kind):
            return
        found = set(api.list_repo_files(repo, repo_type=kind)) - {_FROM_THE_HUB}
        if not found:
            return
        ours = MARK in found and sums_of(_read(api, repo, kind)) is not None
    except HFValidationError as error:
        raise ConfigError(f"{_OPTION} {repo}: {error}. Give USER/NAME") from error
    except Exception as error:  # of httpx and the hub's own kinds
        raise _failed(repo, error, "Nothing was exported") from error
    if not ours:
        raise StorageError(
            f"{_OPTION} {repo}: this repository holds files that are no export of gendataagent "
            f"({first_few(sorted(found))}); name a new one"
        )


def upload(path: Path, repo: str, kind: str, *, private: bool = True) -> str:
    """Upload an export, in the place of an earlier one, and return its address.

    Args:
        private: of a new repository; one that exists stays as it is.

    Raises:
        StorageError: it could not be uploaded; the folder is unchanged.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        address = api.create_repo(repo, repo_type=kind, private=private, exist_ok=True)
        # first of all, so that an upload that is cut off can be repeated, see `check_upload`
        api.upload_file(
            repo_id=address.repo_id,
            repo_type=kind,
            path_or_fileobj=path / MARK,
            path_in_repo=MARK,
            commit_message="Begin an export by gendataagent",
        )
        api.upload_folder(
            repo_id=address.repo_id,
            repo_type=kind,
            folder_path=path,
            delete_patterns="*",  # shards of an earlier export; `check_upload` saw that it is one
            commit_message="Export by gendataagent",
        )
    except Exception as error:  # of httpx and the hub's own kinds
        raise _failed(repo, error, f"The export is in {path}") from error
    return str(address)


def _read(api: Any, repo: str, kind: str) -> bytes:
    path = api.hf_hub_download(repo, MARK, repo_type=kind)
    return Path(path).read_bytes()


def _failed(repo: str, error: Exception, where: str) -> StorageError:
    reason = shown(" ".join(str(error).split()))[:300].rstrip(".") or type(error).__name__
    return StorageError(
        f"cannot upload to {repo}: {reason}. {where}; check the name and that your token may "
        "write, then give the same command again"
    )
