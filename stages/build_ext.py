"""DVC stage `build_ext`: the operator, for the toolchain of this machine."""

from __future__ import annotations

from pathlib import Path

from pose.build_ext import build
from pose.errors import run_main


def main() -> None:
    """Build what there is a compiler for, and say what was built."""
    print(*build(Path("build")).values(), sep="\n")  # what dvc.yaml names, whatever POSE_BUILD says


if __name__ == "__main__":
    run_main(main)
