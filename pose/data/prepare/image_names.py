"""The file that an annotation's `file_name` means: annotation tools write paths of their own machines."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from os.path import isfile  # unlike Path.is_file no error for names that are too long
from pathlib import Path
from unicodedata import normalize
from urllib.parse import unquote

from pose.data.formats.coco_json import Entry
from pose.data.prepare.summary import Changes
from pose.io.errors import UserError
from pose.io.images import relative_name

SEPARATOR = re.compile(r"\\|\?d=")  # the second where Label Studio serves files of a disk
SHOWN = 80  # characters of a name in notes
UPLOAD = re.compile(r"^[0-9a-f]{8}-")  # what Label Studio puts before the name of a file
LONGEST_PATH = 4096  # characters of a `file_name`, which may be a path on another machine
DEEPEST = 16  # folders of it that are tried


@dataclass(frozen=True, slots=True)
class ImageFile:
    """folder, name: of the image, or where it was looked for first. missing: why there is none, or ""."""

    folder: Path
    name: str
    missing: str = ""

    @property
    def path(self) -> Path:
        """Made when asked for: paths of all images take more memory than their annotations."""
        return self.folder / self.name


def image_folders(coco: Path, name: str) -> list[Path]:
    """Where the images of `person_keypoints_{name}.json` are looked for, in this order."""
    places = (coco / name, coco / "images" / name, coco / "images", coco)
    return [folder for folder in places if folder.is_dir()]


def find_images(
    images: Sequence[Entry], folders: Sequence[Path], where: str, changes: Changes
) -> list[ImageFile]:
    """The file of each image below one of the folders; its `file_name` becomes the name by which it is found.

    Where the name as it is written finds none, less and less of its beginning counts; a file that several
    images would get in this way is nobody's. UserError, beginning with `where`, for what is no name, and for
    an image that is listed twice.
    """
    found: list[tuple[str, Path | None]] = []
    for image in images:
        names = possible_names(image.get("file_name"), f"{where}: image {image.get('id')!r}: file_name")
        places = ((name, folder) for name in names for folder in folders if isfile(folder / name))
        found.append(next(places, (names[0], None)))
    claims = Counter(found)
    named = zip(images, found, strict=True)
    exact = Counter(place for image, place in named if image.get("file_name") == place[0])
    if twice := [name for (name, folder), count in exact.items() if folder and count > 1]:
        raise UserError(f"{where}: found image {twice[0]} twice, expected all its people under one entry")
    files = []
    for image, (name, folder) in zip(images, found, strict=True):
        written, image["file_name"] = image["file_name"], name
        shown = repr(written[-SHOWN:])
        missing = f"{shown} is in none of the folders {', '.join(map(str, folders))}"
        if folder and name != written:
            missing = f"{shown} could be {folder / name}, as that of another image could"
            if claims[name, folder] == 1:
                changes.add("file_name means a file of another name", f"{shown}, {name[-SHOWN:]!r}")
        is_sure = folder and (name == written or claims[name, folder] == 1)
        files.append(ImageFile(folder or folders[0], name, "" if is_sure else missing))
    return files


def possible_names(written: object, where: str) -> list[str]:
    """The relative names that a `file_name` may mean, the likeliest first; none leads out of a folder.

    A backslash separates folders, %20 is a space, an accent may be a character of its own, and folders at the
    beginning may be those of another machine. UserError, beginning with `where`, if it means none.
    """
    if not isinstance(written, str) or len(written) > LONGEST_PATH:
        return [relative_name(written, where)]
    names = [written]
    for text in dict.fromkeys(SEPARATOR.sub("/", one) for one in (written, unquote(written))):
        parts = [part for part in text.split("/") if part not in ("", ".")]
        names += ["/".join(parts[first:]) for first in range(max(0, len(parts) - DEEPEST), len(parts))]
        names += [UPLOAD.sub("", part) for part in parts[-1:]]
    # An accent is a character of its own in names that macOS has written, on disk or in the file.
    forms = [form for name in names for form in (name, *(normalize(one, name) for one in ("NFC", "NFD")))]
    usable = []
    for name in dict.fromkeys(forms):
        try:
            usable.append(relative_name(name, where))
        except UserError:
            continue
    return usable or [relative_name(written, where)]
