"""The folders of the raw sets in a data root, in whichever spelling they come."""

from __future__ import annotations

from pathlib import Path

from pose.io.images import relative_name

# The first spelling is that of image names.
FOLDERS = {
    "lsp": ("LSP", "lsp"),
    "lspet": ("LSPET", "lspet"),
    "mpii": ("mpii", "MPII"),
    "coco": ("coco", "COCO", "coco-mini"),
}


def find_folder(root: str | Path, source: str) -> Path:
    """A set's folder under the data root in whichever spelling exists, in the first one if none does."""
    candidates = [Path(root) / folder for folder in FOLDERS[source]]
    return next((folder for folder in candidates if folder.is_dir()), candidates[0])


def image_name(source: str, within: str, file: str | Path) -> str:
    """`within` the set's folder, e.g. `images/im0001.jpg`, as a name relative to the data root.

    UserError, naming the annotation `file`, for a name that would lead out of that folder.
    """
    return f"{FOLDERS[source][0]}/{relative_name(within, f'{file}: image name')}"
