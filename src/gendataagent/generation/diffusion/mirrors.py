"""Stable Diffusion 1.5: its repositories on the hub, and the commit this project was built for.

Its first repository, runwayml's, was taken down in 2024; mirrors hold the same commits. The commit
below is the newest that public code loads from each of the three names (as the folder name under
`snapshots/` in hub caches); it was not checked on the hub itself.
"""

from __future__ import annotations

from dataclasses import replace

from gendataagent.core.hub import ModelSource

STABLE_DIFFUSION_15 = "stable-diffusion-v1-5/stable-diffusion-v1-5"
STABLE_DIFFUSION_15_COMMIT = "451f4fe16113bff5a5d2269ed5ad43b0592e9a14"
STABLE_DIFFUSION_15_NAMES = (
    STABLE_DIFFUSION_15,
    "sd-legacy/stable-diffusion-v1-5",
    "runwayml/stable-diffusion-v1-5",
)


def with_mirrors(source: ModelSource) -> list[ModelSource]:
    """Return the sources to try, in order: as named, then its mirrors.

    Only SD 1.5 without a revision of the user's own has mirrors, and is pinned to a commit: under
    the same branch name another repository may hold another model.
    """
    is_pinned = source.folder is None and source.name in STABLE_DIFFUSION_15_NAMES
    if not is_pinned or source.revision:
        return [source]
    pinned = replace(source, revision=STABLE_DIFFUSION_15_COMMIT)
    others = [name for name in STABLE_DIFFUSION_15_NAMES if name != source.name]
    return [pinned, *(replace(pinned, name=name) for name in others)]
