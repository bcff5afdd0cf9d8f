"""Real data sets linked into `data/real`, laid out as the stages expect them. What `pose link-data` does."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from pose.data.formats.folders import FOLDERS
from pose.io.errors import UserError

VALID_ID = "valid_id"  # which may lie in a folder `coco` that holds nothing else


def link_data(source: Path, target: Path = Path("data/real")) -> list[str]:
    """Link the files of every set under `source`; returns the names of those that were found.

    A link for each file: DVC does not look behind a link to a folder, and would miss every change.
    UserError where there is no set, or where `target` holds files that are no links.
    """
    found: dict[str, Path] = {}
    for name, *others in FOLDERS.values():
        within = "annotations" if name == "coco" else ""
        for spelling in (name, *others):
            if (source / spelling / within).is_dir():
                found.setdefault(name, (source / spelling).resolve())
    if not found:
        names = ", ".join(folders[0] for folders in FOLDERS.values())
        raise UserError(f"{source}: found no data set, expected a folder {names}")
    for name, folder in found.items():
        for own in (target / name).rglob("*"):
            if own.is_file() and not own.is_symlink():
                expected = "expected nothing of your own there"
                raise UserError(f"{target / name}: found {own.name}, which is no link, {expected}")
        shutil.rmtree(target / name, ignore_errors=True)
        for parent, _, files in os.walk(folder, followlinks=True):
            links = target / name / Path(parent).relative_to(folder)
            links.mkdir(parents=True)
            for file in files:
                (links / file).symlink_to(Path(parent, file))
    valid_id = source / "coco" / VALID_ID
    if "coco" in found and valid_id.is_file() and not (target / "coco" / VALID_ID).exists():
        (target / "coco" / VALID_ID).symlink_to(valid_id.resolve())
    return list(found)
