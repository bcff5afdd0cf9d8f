"""Reading pictures safely: a file that is missing, damaged or cut short is the user's to know, by name.

OpenCV fills the lost part of a truncated JPEG with grey and says nothing, so that people would be trained on grey boxes.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import cv2
import numpy as np

from pose.errors import UserError
from pose.files import read_bytes

_JPEG_START = b"\xff\xd8\xff"
_JPEG_END = b"\xff\xd9"
_PNG_START = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"IEND\xaeB\x60\x82"


def read_image(path: str | Path, *, upright: bool = False) -> np.ndarray:
    """Read a picture as (H, W, 3) uint8 RGB. UserError, naming the file, if it is missing, not a picture or cut short.

    upright: turn it as its EXIF data says, for a user's own photographs. Annotations count pixels as they are stored: False.
    """
    return decode_image(read_picture(path), str(path), upright=upright)


def read_picture(path: str | Path) -> bytes:
    """An encoded picture; UserError, naming it, if it cannot be had."""
    return read_bytes(path, "a picture")


def decode_image(data: bytes, name: str, *, upright: bool = False) -> np.ndarray:
    """Decode an encoded picture to (H, W, 3) uint8 RGB. UserError, naming it as `name`, if it is damaged or cut short."""
    if not data:
        raise UserError(f"{name}: found an empty file, expected a picture")
    if data.startswith(_JPEG_START) and not _jpeg_is_whole(data):
        raise UserError(f"{name}: truncated JPEG, its end is missing ({len(data)} bytes found)")
    if data.startswith(_PNG_START) and _PNG_END not in data:
        raise UserError(f"{name}: truncated PNG, its end is missing ({len(data)} bytes found)")
    flags = cv2.IMREAD_COLOR_RGB if upright else cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image_HW3 = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), flags)
    except cv2.error as error:
        raise UserError(f"{name}: cannot be decoded ({' '.join(str(error).split())})") from None
    if image_HW3 is None:
        raise UserError(f"{name}: cannot be decoded, expected a picture (JPEG, PNG, ...)")
    return image_HW3


def is_jpeg(data: bytes) -> bool:
    """Whether the data begins as a JPEG does."""
    return data.startswith(_JPEG_START)


def encode_jpeg(image_HW3: np.ndarray, quality: int) -> bytes:
    """Encode an (H, W, 3) uint8 RGB picture; quality 1 to 100."""
    done, data = cv2.imencode(".jpg", cv2.cvtColor(image_HW3, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done, f"JPEG encoder refused a picture of shape {image_HW3.shape}"
    return data.tobytes()


def shrink(image_HW3: np.ndarray, zoom: float) -> tuple[np.ndarray, np.ndarray]:
    """The picture `zoom` times as large, and the affine (2, 3) to it, exact although its sides are whole numbers of px.

    Every pixel counts, unlike in a bilinear warp, which skips most of them. A zoom of 1 or more leaves the picture as it is.
    """
    size_wh = np.array(image_HW3.shape[1::-1])
    small_wh = np.clip(np.rint(size_wh * zoom), 1, size_wh).astype(int)
    if (small_wh == size_wh).all():
        return image_HW3, np.eye(2, 3)
    zoom_xy = small_wh / size_wh
    affine = np.column_stack([np.diag(zoom_xy), 0.5 * zoom_xy - 0.5])
    return cv2.resize(image_HW3, small_wh.tolist(), interpolation=cv2.INTER_AREA), affine


def relative_name(name: Any, where: str) -> str:
    """A picture's name as annotations give it, tidied; UserError, beginning with `where`, if it leads out of the folder it is relative to.

    Either kind of separator counts, so that it leads nowhere on any system.
    """
    posix, windows = PurePosixPath(str(name)), PureWindowsPath(str(name))
    if not isinstance(name, str) or not name.isprintable() or windows.anchor or ".." in windows.parts or not posix.name:
        raise UserError(f"{where} {name!r} is not usable, expected a relative path without '..'")
    return str(posix)


def _jpeg_is_whole(data: bytes) -> bool:
    """Whether an end marker follows the picture's own data.

    The segments before that data are stepped over: a thumbnail inside one of them has an end marker of its own. In the
    data itself a 0xFF is always followed by a zero or a restart marker, so that the end marker cannot be met by chance.
    """
    at = 2
    while 0 <= at <= len(data) - 4:
        marker = data[at + 1]
        if data[at] != 0xFF:  # stray bytes between segments: decoders skip them
            at = data.find(b"\xff", at)
        elif marker == 0xFF:  # filling
            at += 1
        elif marker == 0xDA:  # start of scan: the picture's data follows
            return data.rfind(_JPEG_END, at) >= 0
        elif marker == 0x01 or 0xD0 <= marker <= 0xD8:  # markers without content
            at += 2
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return False
