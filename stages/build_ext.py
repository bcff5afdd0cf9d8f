"""DVC stages `toolchain` and `build_ext`: what the operator is built with, and the operator itself.

`toolchain` runs on every `dvc repro` and writes the same file as long as platform, torch and compilers stay: DVC cannot see them itself.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pose.build_ext import build, toolchain
from pose.errors import UserError
from pose.files import write_json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--toolchain", action="store_true", help="only write build/toolchain.json: platform, torch and compilers")
    only_toolchain = parser.parse_args().toolchain
    folder = Path("build")  # what dvc.yaml names, whatever POSE_BUILD says
    try:
        if only_toolchain:
            write_json(folder / "toolchain.json", toolchain())
        else:
            print(*build(folder).values(), sep="\n")
    except UserError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
