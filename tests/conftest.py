"""Shared by all tests: where real data is, and small things made in a line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real images and annotations; a test that wants it is skipped where there is none."""
    folder = Path(os.environ.get("POSE_REAL_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder} (set POSE_REAL_DATA to the folder that holds it)")
    return folder
