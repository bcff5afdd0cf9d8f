"""A lock file of DVC that is broken, which DVC itself does not repair."""

from __future__ import annotations

import json
from pathlib import Path

from pose.io.errors import UserError


def dvc_temp_folder(root: Path) -> Path:
    """Where a DVC repository has its locks."""
    return root / ".dvc" / "tmp"


def remove_broken_lock(root: Path) -> str:
    """Remove a broken lock file of the DVC repository; a line on what was done, or nothing.

    DVC truncates its file `rwlock` and then writes it. Killed in between, it leaves a file that is no JSON,
    with which no DVC starts, and has no command that repairs it. UserError if it is broken while another DVC
    runs.
    """
    folder = dvc_temp_folder(root)
    path = folder / "rwlock"
    if not path.exists() or _is_readable(path):
        return ""
    from dvc.lock import LockError, make_lock

    try:
        with (
            make_lock(str(folder / "lock"), str(folder)),
            make_lock(str(folder / "rwlock.lock"), str(folder)),
        ):
            if _is_readable(path):  # meanwhile
                return ""
            path.unlink()
    except LockError:
        raise UserError(f"{path}: found no JSON while another DVC runs here; wait for it or end it") from None
    return f"{path}: removed: a DVC that was killed had left it unreadable"


def _is_readable(path: Path) -> bool:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return True
    except ValueError:
        return False
    return isinstance(content, dict) and content.keys() <= {"read", "write"}
