"""Stage `package` of projects of `pose init`: the version of the package -> build/code/package.json.

Runs on every `dvc repro`: DVC cannot see which version is installed.
"""

from __future__ import annotations

from pathlib import Path

from pose.io.command import run_stage
from pose.io.files import write_json
from pose.training.code_version import package_version


def main() -> None:
    """Write the version of the installed package."""
    write_json(Path("build/code/package.json"), {"pose": package_version()})


if __name__ == "__main__":
    run_stage(main)
