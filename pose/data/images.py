"""Reading pictures safely: a file that is missing, damaged or cut short is the user's to know, by name.

OpenCV fills the lost part of a truncated JPEG with grey and says nothing, so that people would be trained on grey boxes.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from pose.errors import UserError

_JPEG_START = b"\xff\xd8\xff"
_JPEG_END = b"\xff\xd9"
_PNG_START = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"IEND\xaeB\x60\x82"


def read_image(path: str | Path, *, upright: bool = False) -> np.ndarray:
    """Read a picture as (H, W, 3) uint8 RGB. UserError, naming the file, if it is missing, not a picture or cut short.

    upright: turn it as its EXIF data says, for a user's own photographs. Annotations count pixels as they are stored: False.
    """
    return decode_image(read_bytes(path), str(path), upright=upright)


def read_bytes(path: str | Path) -> bytes:
    """The content of a file; UserError, naming it, if it cannot be had."""
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file, expected a picture") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None


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
