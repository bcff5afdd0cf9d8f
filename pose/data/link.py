"""Real data sets linked into `data/real`, laid out as the stages expect them. What `pose link-data` does."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from pose.io.errors import UserError

# Name of each set in a data root, and the folders by which it may come.
SETS = {
    "LSP": ("LSP", "lsp"),
    "LSPET": ("LSPET", "lspet"),
    "mpii": ("mpii", "MPII"),
    "coco": ("coco", "COCO", "coco-mini"),
}
VALID_ID = "valid_id"  # which may lie in a folder `coco` that holds nothing else


def link_data(source: Path, target: Path = Path("data/real")) -> list[str]:
    """Link the files of every set under `source`; returns the names of those that were found.

    A link for each file: DVC does not look behind a link to a folder, and would miss every change.
    UserError where there is no set, or where `target` holds files that are no links.
    """
    found = {name: folder for name in SETS if (folder := _find(source, name)) is not None}
    if not found:
        raise UserError(f"{source}: found no data set, expected a folder {', '.join(SETS)}")
    for name in found:
        if own := next(
            (path for path in (target / name).rglob("*") if path.is_file() and not path.is_symlink()), None
        ):
            raise UserError(
                f"{target / name}: found {own.name}, which is no link, expected nothing of your own there"
            )
    for name, folder in found.items():
        shutil.rmtree(target / name, ignore_errors=True)
        for path in _files(folder.resolve()):
            link = target / name / path.relative_to(folder.resolve())
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path)
    valid_id = source / "coco" / VALID_ID
    if "coco" in found and valid_id.is_file() and not (target / "coco" / VALID_ID).exists():
        (target / "coco" / VALID_ID).symlink_to(valid_id.resolve())
    return list(found)


def _find(source: Path, name: str) -> Path | None:
    """The folder of a set; COCO is known by its annotations."""
    folders = (source / folder for folder in SETS[name])
    return next(
        (path for path in folders if (path / "annotations" if name == "coco" else path).is_dir()), None
    )


def _files(folder: Path) -> Iterator[Path]:
    """All files below a folder, also behind links; a folder reached again, by a link upwards, is skipped."""
    seen = {os.path.realpath(folder)}
    for parent, folders, names in os.walk(folder, followlinks=True):
        real = {name: os.path.realpath(os.path.join(parent, name)) for name in folders}
        folders[:] = sorted(name for name in folders if real[name] not in seen)
        seen |= set(real.values())
        yield from (Path(parent) / name for name in sorted(names))
