"""A project for an installed package: parameters, stages and presets in a folder. `pose init`."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from ruamel.yaml.comments import CommentedMap

from pose.experiments.project_files import COPIED, PIPELINE
from pose.experiments.yaml_file import as_yaml, load_commented
from pose.io.errors import UserError
from pose.io.files import write_text, writing
from pose.io.git import run_git
from pose.io.paths import PROJECT

PACKAGE_VERSION = "build/code/package.json"  # in place of the package's source files, which are elsewhere
CODE = ("pose/", "csrc", "build/code/")  # what stages depend on that is code of the package, or stands for it


def init_project(folder: Path) -> None:
    """Lay out a project in a new or empty folder, as a git repository if it is in none.

    `dvc repro` there runs the whole pipeline with the installed package, and runs it again for a newer one.
    UserError if there is something in the folder, or it cannot be written.
    """
    with writing(folder):
        taken = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    if taken:
        raise UserError(f"{folder}: found a file or a folder with files, expected a new or empty folder")
    pipeline = load_commented(PROJECT / PIPELINE)
    _depend_on_installed_package(pipeline["stages"])
    with writing(folder):
        for name in COPIED:
            source, target = PROJECT / name, folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, target)
    write_text(folder / PIPELINE, as_yaml(pipeline))
    if run_git("rev-parse", folder=folder) is None:
        run_git("init", "--quiet", folder=folder)


def _depend_on_installed_package(stages: Any) -> None:
    """Replace source files of the package among the dependencies by files that hold its version."""
    for item in stages["train"]["foreach"].values():
        for key in ("also", "init"):
            if item[key].startswith(CODE):
                item[key] = f"build/code/{item['problem']}.json"
    for stage in stages.values():
        deps = stage.get("do", stage).get("deps", [])
        used = [number for number, dep in enumerate(deps) if dep.startswith(("pose/", "csrc"))]
        for number in reversed(used[1:]):
            del deps[number]
        if used:
            deps[used[0]] = PACKAGE_VERSION
    stages["package"] = CommentedMap(
        desc="the version of the installed package",
        cmd="python -m stages.package",
        always_changed=True,
        outs=[{PACKAGE_VERSION: {"cache": False}}],
    )
