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
    UserError, before anything is changed, where there is no set, where a link leads back to a folder that it
    is in, or where `target` holds files that are no links.
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
    files_of = {name: _files(folder) for name, folder in found.items()}
    for name, folder in found.items():
        if (target / name).resolve() in (folder, *folder.parents):
            raise UserError(f"{source}: is where the links are, expected the data itself")
        for own in (target / name).rglob("*"):
            if own.is_file() and not own.is_symlink():
                expected = "expected nothing of your own there"
                raise UserError(f"{target / name}: found {own.name}, which is no link, {expected}")
    for name, folder in found.items():
        shutil.rmtree(target / name, ignore_errors=True)
        for file in files_of[name]:
            link = target / name / file.relative_to(folder)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(file)
    valid_id = source / "coco" / VALID_ID
    if "coco" in found and valid_id.is_file() and not (target / "coco" / VALID_ID).exists():
        (target / "coco" / VALID_ID).symlink_to(valid_id.resolve())
    return list(found)


def _files(folder: Path) -> list[Path]:
    """All files in a folder and the folders in it, also behind links."""
    files: list[Path] = []
    for parent, folders, names in os.walk(folder, followlinks=True):
        above = {path.resolve() for path in (Path(parent), *Path(parent).parents)}
        for path in (Path(parent, name) for name in folders):
            if path.is_symlink() and path.resolve() in above:
                raise UserError(f"{path}: is a link to {path.resolve()}, which it is in, expected data alone")
        files += (Path(parent, name) for name in names)
    return files
