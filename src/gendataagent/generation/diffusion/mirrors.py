"""Stable Diffusion 1.5: where it can be had, and the state of it that this was built for.

Its first repository, runwayml's, was taken down in 2024; mirrors hold the same commits. The commit
below is the newest that public code loads from each of the three names (it is the folder name under
`snapshots/` in their hub caches); it was not looked up at the hub itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gendataagent.core.hub import ModelSource

STABLE_DIFFUSION_15 = "stable-diffusion-v1-5/stable-diffusion-v1-5"
STABLE_DIFFUSION_15_COMMIT = "451f4fe16113bff5a5d2269ed5ad43b0592e9a14"
STABLE_DIFFUSION_15_NAMES = (
    STABLE_DIFFUSION_15,
    "sd-legacy/stable-diffusion-v1-5",
    "runwayml/stable-diffusion-v1-5",
)


def places(source: ModelSource) -> Iterator[ModelSource]:
    """Yield where a model may be found: as named, at the pinned state, then its other names.

    Other names are given only for SD 1.5 without a revision of the user's own: what another
    repository has under the same branch name need not be the same model.
    """
    if source.folder is not None or source.name not in STABLE_DIFFUSION_15_NAMES:
        yield source
        return
    if source.revision:
        yield source
        return
    pinned = replace(source, revision=STABLE_DIFFUSION_15_COMMIT)
    yield pinned
    for name in STABLE_DIFFUSION_15_NAMES:
        if name != source.name:
            yield replace(pinned, name=name)
