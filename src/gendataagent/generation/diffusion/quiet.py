"""diffusers without its messages."""

from __future__ import annotations

import logging
import warnings
from typing import Any


def import_diffusers_quietly() -> Any:
    """Return diffusers, with its and transformers' log messages and progress bars off.

    What matters of them is raised as an error or reported once: diffusers warns of every truncated
    prompt.
    """
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    import diffusers

    # diffusers passes this deprecated argument with every file it asks the hub for.
    warnings.filterwarnings("ignore", message="The `local_dir_use_symlinks` argument")
    diffusers.utils.logging.set_verbosity(logging.CRITICAL)
    diffusers.utils.logging.disable_progress_bar()
    return diffusers
