"""What a project needs beside `pose/`. setup.py, which cannot import the package, runs this file alone."""

from __future__ import annotations

COPIED = (
    "params.yaml",
    ".dvcignore",
    ".gitignore",
    ".github/tolerance.yaml",
    ".dvc/config",
    ".dvc/plots.html",
    "presets",
    "stages",
    "studies/adversary.csv",
)
PIPELINE = "dvc.yaml"  # which `pose init` changes on its way
SOURCES = "csrc"  # of the operator, which is built from where the package is
PACKAGED = (*COPIED, PIPELINE, SOURCES)
