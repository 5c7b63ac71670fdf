"""Fixtures and switches of the whole suite: shapes in annotations are enforced while the tests run."""

import os
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "2")
# The import hook must be in place before any test module imports the packages.
from jaxtyping import install_import_hook

install_import_hook(["pipelines", "third_party"], "beartype.beartype")

import pytest

from benchmarks.chromium import Browser, chromium, chromium_is_installed

SHARED = Path(os.environ.get("OSN_TEST_DATA") or Path(__file__).resolve().parents[2] / "shared")
"""Test data and weights too large for the repository (CONTRIBUTING.md says what they are); tests skip without them."""


@pytest.fixture(scope="session")
def playroom() -> Path:
    """A rendered test scene with ground truth."""
    folder = SHARED / "data" / "playroom"
    if not folder.is_dir():
        pytest.skip("the playroom scene is not on this machine: see OSN_TEST_DATA in CONTRIBUTING.md")
    return folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the test data (real clips, point tracks) and weights."""
    if not SHARED.is_dir():
        pytest.skip("the test data are not on this machine: see OSN_TEST_DATA in CONTRIBUTING.md")
    return SHARED


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A headless Chromium; tests that need one are skipped where there is none."""
    if not chromium_is_installed():
        pytest.skip("no chromium and chromedriver on this machine")
    with chromium(tmp_path_factory.mktemp("chromium")) as running:
        yield running
