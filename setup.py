"""Puts into the wheel what the repository has beside `pose/` and a project needs: see `pose init`."""

from __future__ import annotations

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

PROJECT = (
    "params.yaml",
    "dvc.yaml",
    ".dvcignore",
    ".gitignore",
    ".dvc/config",
    ".dvc/plots.html",
    "csrc",
    "presets",
    "stages",
)
PROJECT += ("studies/adversary.csv",)


class BuildWithProject(build_py):
    """The package, and those files in `pose/project/`; an editable install finds them where they are."""

    def run(self) -> None:
        """Build the package, then copy the files."""
        super().run()
        if self.editable_mode:
            return
        for name in PROJECT:
            source, target = Path(name), Path(self.build_lib, "pose", "project", name)
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(source, target, ignore=ignored, dirs_exist_ok=True)
            else:
                shutil.copy(source, target)


setup(cmdclass={"build_py": BuildWithProject})
