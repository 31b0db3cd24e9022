"""Where a run sends what it knows of the user's images, and whether the user named that place.

A run folder may come from someone else: resuming it must not send captions, images or a key of this
user to an address that its settings choose. Addresses that the user's own calls named are
remembered in the cache folder, as hashes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection
from dataclasses import dataclass

from gendataagent.config import AUTO, RunConfig
from gendataagent.core.cache import cache_folder
from gendataagent.core.errors import ConfigError, RunFolderError, StorageError
from gendataagent.core.journal import append_row, read_journal
from gendataagent.core.run_folder import RunFolder
from gendataagent.core.secrets import shown
from gendataagent.generation.executors.choosing import RAY
from gendataagent.generation.language.building import ENDPOINT
from gendataagent.generation.language.proxies import is_this_machine

_FILE = "endpoints.jsonl"
_RAY_HERE = ("auto", "local")


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """A place on another machine that a run sends something to.

    Args:
        setting: which names the address.
        address: as it may be shown.
        sent: what is sent there, in words.
        identity: a hash of all that must not be exchanged unnoticed.
    """

    setting: str
    address: str
    sent: str
    identity: str

    @property
    def sentence(self) -> str:
        """What is sent where, for the user, before anything is."""
        return f"{self.sent} are sent to {self.address} ({self.setting})"


def destinations(config: RunConfig) -> list[Destination]:
    """Return the places on other machines that a run with these settings sends something to."""
    found: list[Destination] = []
    prompting, generation = config.prompting, config.generation
    if config.tracking.to == "wandb":
        found.append(
            Destination(
                setting="tracking.to",
                address="wandb",
                sent="metrics, settings and some generated images",
                identity=_hash("tracking", "wandb"),
            )
        )
    if not config.agent.enabled:
        return found
    url, variable = prompting.endpoint_url, prompting.endpoint_key_variable
    if prompting.rewriter == ENDPOINT and not is_this_machine(url):
        has_key = bool(os.environ.get(variable or "", "").strip())
        key = f" and the key in the environment variable {variable}" if has_key else ""
        found.append(
            Destination(
                setting="prompting.endpoint_url",
                address=shown(url),
                sent=f"class names and captions of training images{key}",
                identity=_hash(url, variable),
            )
        )
    cluster = generation.ray_address
    if cluster and generation.executor in (AUTO, RAY) and not _is_ray_here(cluster):
        found.append(
            Destination(
                setting="generation.ray_address",
                address=shown(cluster),
                sent="training images, captions and objects that run code on either side",
                identity=_hash("ray", cluster),
            )
        )
    return found


def remember(config: RunConfig, settings: Collection[str] | None = None) -> None:
    """Remember that the user named these destinations; without a cache folder, do nothing.

    Args:
        settings: only those that these settings name.
    """
    try:
        for place in destinations(config):
            named = settings is None or place.setting in settings
            if named and place.identity not in _remembered():
                append_row(cache_folder() / _FILE, {"endpoint": place.identity})
    except StorageError:  # it is asked for again at a resume
        return


def check_destinations(folder: RunFolder, config: RunConfig) -> None:
    """Raise unless the user has named each place that the settings in a run folder name.

    Raises:
        ConfigError: naming address, what would be sent, and what to do.
    """
    known = _remembered()
    for place in destinations(config):
        if place.identity not in known:
            raise ConfigError(
                f"{folder.config_file} asks to send {place.sent} to {place.address}, which no run "
                "on this machine was started with; the folder may come from someone else. If that "
                f"is right, add to this command: --set {place.setting}={place.address} (in Python: "
                f'resume(..., named=["{place.setting}"])); else start a run of your own with --out'
            )


def _is_ray_here(address: str) -> bool:
    url = address if "://" in address else f"ray://{address}"
    return address in _RAY_HERE or is_this_machine(url)


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _remembered() -> set[str]:
    try:
        rows = read_journal(cache_folder() / _FILE)
    except (RunFolderError, StorageError):  # none can be read: none is remembered
        return set()
    return {str(row.get("endpoint")) for row in rows}
