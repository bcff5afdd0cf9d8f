"""Stage `toolchain`: what is built and trained with -> build/toolchain.json, build/code/PROBLEM.json.

Runs on every `dvc repro` and writes the same files until platform, torch, compilers or code have changed: DVC
cannot see the first three, and of the last it would count comments too.
"""

from __future__ import annotations

from pathlib import Path

from pose.io.command import run_stage
from pose.io.files import remove_stale_temp_files, write_json
from pose.ops.build import toolchain
from pose.training.code_version import EXCLUDED_BY_PROBLEM, code_version


def main() -> None:
    """Write the versions of the toolchain and, for each problem, of the code."""
    folder = Path("build")  # what dvc.yaml names, whatever POSE_BUILD says
    remove_stale_temp_files(folder, folder / "code")
    write_json(folder / "toolchain.json", toolchain())
    for problem in EXCLUDED_BY_PROBLEM:
        write_json(folder / "code" / f"{problem}.json", code_version(problem))


if __name__ == "__main__":
    run_stage(main)
