"""The operator's tests once more, on its CUDA source: emulated, in the place of the CPU's library."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ROOT


@pytest.mark.slow
@pytest.mark.parametrize("order", ["forward", "backward", "7"])
def test_the_cuda_source_passes_the_operators_tests_whatever_the_threads_order(
    emulated: Path, order: str
) -> None:
    chosen = [] if order == "forward" else ["-k", "formula or bit_equal or share_a_cell or drawn"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *chosen]
    environment = {"POSE_BUILD": str(emulated), "POSE_TEST_DEVICES": "emulated", "POSE_EMULATED_ORDER": order}
    done = subprocess.run(
        [*command, "tests/ops/test_tag_loss.py"],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > (40 if order == "forward" else 10)  # type: ignore[index]
