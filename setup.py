"""Puts into the wheel what the repository has beside `pose/` and a project needs: see `pose init`."""

from __future__ import annotations

import runpy
import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

FILES = runpy.run_path("pose/experiments/project_files.py")["PACKAGED"]


class BuildWithProject(build_py):
    """The package, and those files in `pose/project/`; an editable install finds them where they are."""

    def run(self) -> None:
        """Build the package, then copy the files."""
        super().run()
        if self.editable_mode:
            return
        for source in project_files():
            target = Path(self.build_lib, "pose", "project", source)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)

    def get_source_files(self) -> list[str]:
        """What a source distribution holds: the package's files and those."""
        return [*super().get_source_files(), *map(str, project_files()), "constraints.txt"]


def project_files() -> list[Path]:
    """The files of a project, those of its folders too."""
    roots = [Path(name) for name in FILES]
    found = [path for root in roots for path in ([root] if root.is_file() else sorted(root.rglob("*")))]
    return [path for path in found if path.is_file() and "__pycache__" not in path.parts]


setup(cmdclass={"build_py": BuildWithProject})
