"""Whether a key may be sent to the endpoint that a run folder names.

A run folder may come from someone else: resuming it must not send a key of this user to an address,
or from an environment variable, that its settings choose. What the user's own calls named is
remembered in the cache folder, as a hash.
"""

from __future__ import annotations

import hashlib
import os

from gendataagent.config import RunConfig
from gendataagent.core import files
from gendataagent.core.cache import cache_folder
from gendataagent.core.errors import ConfigError, RunFolderError, StorageError
from gendataagent.core.run_folder import RunFolder
from gendataagent.core.secrets import shown
from gendataagent.generation.language.building import ENDPOINT
from gendataagent.generation.language.proxies import is_this_machine

_FILE = "endpoints.jsonl"


def remember_endpoint(config: RunConfig) -> None:
    """Remember that the user named this endpoint; without a cache folder, do nothing."""
    if not _sends_a_key(config):
        return
    try:
        if _hash_of(config) not in _remembered():
            files.append_row(cache_folder() / _FILE, {"endpoint": _hash_of(config)})
    except StorageError:  # it is asked for again at a resume
        return


def check_endpoint(folder: RunFolder, config: RunConfig) -> None:
    """Raise unless the endpoint that a run folder names may be given the key.

    It may if it is on this machine, if no key is set, or if the user has named it before.

    Raises:
        ConfigError: naming address, variable and what to do.
    """
    if not _sends_a_key(config) or _hash_of(config) in _remembered():
        return
    settings = config.prompting
    url, name = shown(settings.endpoint_url), settings.endpoint_key_variable
    raise ConfigError(
        f"{folder.config_file} asks to send the key in the environment variable {name} to {url}, "
        "which no run on this machine was started with; the folder may come from someone else. "
        f"If that is right, add to this command: --set prompting.endpoint_url={url} (in Python: "
        f"resume(..., config=...)); else unset {name}"
    )


def _sends_a_key(config: RunConfig) -> bool:
    settings = config.prompting
    return (
        config.agent.enabled
        and settings.rewriter == ENDPOINT
        and bool(os.environ.get(settings.endpoint_key_variable or "", "").strip())
        and not is_this_machine(settings.endpoint_url)
    )


def _hash_of(config: RunConfig) -> str:
    named = (config.prompting.endpoint_url, config.prompting.endpoint_key_variable)
    return hashlib.sha256("\0".join(named).encode()).hexdigest()


def _remembered() -> set[str]:
    try:
        rows = files.read_journal(cache_folder() / _FILE)
    except (RunFolderError, StorageError):  # none can be read: none is remembered
        return set()
    return {str(row.get("endpoint")) for row in rows}
