"""Shared fixtures; the only place, besides the command line, that configures JAX."""

import os
from pathlib import Path

import jax
import pytest

jax.config.update("jax_enable_x64", True)

ROOT = Path(__file__).resolve().parents[1]


def _folder(variable: str, default: str) -> Path:
    folder = Path(os.environ.get(variable, ROOT / default)).resolve()
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent; set {variable} to run this test")
    return folder


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Reference data sets (not part of the project)."""
    return _folder("JAXFF_DATA", "../shared/data")


@pytest.fixture(scope="session")
def reference_dir() -> Path:
    """Stored outputs of original implementations (not part of the project)."""
    return _folder("JAXFF_REFERENCE", "../shared/reference")
