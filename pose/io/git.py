"""The git repository that a run is made in."""

from __future__ import annotations

import subprocess
from pathlib import Path

# Written by the pipeline and tracked by git: what a run is made by does not depend on them.
OUTPUTS = ("dvc.lock", "metrics")


def run_git(*words: str, folder: str | Path = ".") -> str | None:
    """What a git command prints; None where there is no git, no repository or nothing of that name."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=True)
        return done.stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def has_changes(folder: str | Path = ".") -> bool:
    """Whether tracked files differ from the revision, other than what the pipeline writes."""
    left_out = (f":(exclude){path}" for path in OUTPUTS)
    return bool(run_git("status", "--porcelain", "--untracked-files=no", "--", ".", *left_out, folder=folder))
