"""What every test may use: a minimal Stable Diffusion on disk, no network, fixed examples.

Property tests draw the same examples every time, so that `make test` never fails by luck. `make
test-slow` draws many others (`--hypothesis-profile=random`); what it finds is fixed and becomes an
`@example` of its test.
"""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest

# Set before any library that reads them is imported: nothing in the tests may ask a model hub.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"

# No deadline: how long one example takes says more about the machine than about the code.
hypothesis.settings.register_profile("fixed", derandomize=True, database=None, deadline=None)
hypothesis.settings.register_profile("random", max_examples=2000, print_blob=True, deadline=None)
hypothesis.settings.load_profile("fixed")

pytest_plugins = ["tests.small_world", "tests.tiny_networks"]


@pytest.fixture(scope="session")
def tiny_pipeline_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A minimal Stable Diffusion with random weights, as `save_pretrained` leaves it."""
    from tests.tiny_models import save_tiny_pipeline

    return save_tiny_pipeline(tmp_path_factory.mktemp("models") / "tiny-random-sd")
