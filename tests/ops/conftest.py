"""A build of the operator for the tests."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pose.ops import build as build_ext
from pose.ops import tag_loss as ops


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build folder made from these sources and loaded: `build/` if it is up to date, else a new one."""
    needed = {"cpu", "cuda"} if torch.cuda.is_available() else {"cpu"}
    if ops.load() >= needed:
        return build_ext.build_folder()
    folder = tmp_path_factory.mktemp("build")
    with pytest.MonkeyPatch.context() as patch:
        if needed == {"cpu"}:
            patch.setenv("NVCC", "")
        lines = build_ext.build(folder)
    if not ops.load(folder) >= needed:
        pytest.skip("; ".join(lines.values()))
    return folder
