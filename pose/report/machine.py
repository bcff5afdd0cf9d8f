"""What the page says about where it was made."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch

from pose.io.git import has_changes, run_git


def revision(folder: str | Path = ".") -> str:
    """The git revision of a checkout, with `-dirty` where files differ from it (see `pose.io.git.changed`); "unknown" outside of one."""
    found = run_git("describe", "--always", folder=folder)
    return found + ("-dirty" if has_changes(folder) else "") if found else "unknown"


def machine_facts() -> dict[str, str]:
    """Versions and the device that this process would train on."""
    device = f"CPU, {os.cpu_count()} cores"
    if torch.cuda.is_available():
        device = f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}"
    return {
        "PyTorch": torch.__version__,
        "Device": device,
        "Python": platform.python_version(),
        "System": f"{platform.system()} {platform.machine()}",
    }
