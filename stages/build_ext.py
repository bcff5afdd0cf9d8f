"""Stage `build_ext`: csrc/ -> the operator, for the toolchain of this machine."""

from __future__ import annotations

from pathlib import Path

from pose.io.command import run_stage
from pose.ops.build import build


def main() -> None:
    """Build the operator for what there is a compiler for, and say what was built."""
    print(*build(Path("build")).values(), sep="\n")  # what dvc.yaml names, whatever POSE_BUILD says


if __name__ == "__main__":
    run_stage(main)
