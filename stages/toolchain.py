"""DVC stage `toolchain`: what is built and trained with, so that DVC sees when it changes.

Runs on every `dvc repro` and writes the same files as long as platform, torch, compilers and what the code says stay. The first DVC cannot
see; of sources it would see comments too, but not which others they import.
"""

from __future__ import annotations

from pathlib import Path

from pose.build_ext import toolchain
from pose.errors import run_main
from pose.files import write_json
from pose.sources import BESIDE, code_version


def main() -> None:
    """Write `build/toolchain.json` and, for each problem, `build/code/PROBLEM.json`."""
    folder = Path("build")  # what dvc.yaml names, whatever POSE_BUILD says
    write_json(folder / "toolchain.json", toolchain())
    for problem in BESIDE:
        write_json(folder / "code" / f"{problem}.json", code_version(problem))


if __name__ == "__main__":
    run_main(main)
