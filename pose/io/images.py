"""Images read safely: one that is missing, damaged or cut short is a UserError that names it.

OpenCV does not refuse a JPEG or PNG that is cut short: the lost part turns grey, and people would be trained
on grey boxes.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import cv2
import numpy as np

from pose.io.errors import UserError, reading
from pose.io.files import atomic_write, read_bytes

FAR = 1e6  # px; no place in an image is further from its corner
LONGEST_NAME = 200  # characters: file systems refuse longer ones
_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
_JPEG_END, _JPEG_SCAN = b"\xff\xd9", 0xDA
_LOST = 128  # what libjpeg fills the lost part of an image with


def read_image(path: str | Path, *, upright: bool = False) -> np.ndarray:
    """Read an image file; arguments, result and errors as of `decode_image`."""
    return decode_image(read_bytes(path, "an image"), str(path), upright=upright)


def decode_image(data: bytes, name: str, *, upright: bool = False) -> np.ndarray:
    """Decode an image to (H, W, 3) uint8 RGB; UserError, naming it as `name`, if it is damaged or cut short.

    upright: turn it as its EXIF data says, for a user's own photographs. Annotations count pixels as they
    are stored: False.
    """
    if not data:
        raise UserError(f"{name}: found an empty file, expected an image")
    if data.startswith(_PNG):
        _check_png(data, name)
    if is_jpeg(data) and not _jpeg_has_end(data):
        raise UserError(f"{name}: truncated JPEG, its end is missing ({len(data)} bytes found)")
    image_HW3 = _decode(data, name, upright)
    if is_jpeg(data) and _jpeg_has_gap(data, image_HW3, name, upright):
        raise UserError(f"{name}: damaged JPEG, data is missing before its end")
    return image_HW3


def _decode(data: bytes, name: str, upright: bool) -> np.ndarray:
    flags = cv2.IMREAD_COLOR_RGB if upright else cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    with reading(name, "an image"):  # too many pixels, see `pose/__init__.py`, are an error of OpenCV's
        image_HW3 = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), flags)
    if image_HW3 is None:
        raise UserError(f"{name}: cannot be decoded, expected an image (JPEG, PNG, BMP, TIFF or WebP)")
    return image_HW3


def is_jpeg(data: bytes) -> bool:
    """Whether the data begins as a JPEG does."""
    return data.startswith(_JPEG)


def encode_jpeg(image_HW3: np.ndarray, quality: int) -> bytes:
    """Encode an (H, W, 3) uint8 RGB image; quality 1 to 100."""
    return _encode(image_HW3, ".jpg", cv2.IMWRITE_JPEG_QUALITY, quality)


def write_image(path: Path, image_HW3: np.ndarray) -> None:
    """Write an (H, W, 3) uint8 RGB image in the format of its suffix; UserError if that cannot be done."""
    data = _encode(image_HW3, path.suffix)  # in memory: OpenCV crashes at file names that are not UTF-8
    if not data:
        size = f"{image_HW3.shape[1]} x {image_HW3.shape[0]} px"
        raise UserError(f"{path}: an image of {size} cannot be written as {path.suffix}")
    with atomic_write(path) as temporary:
        temporary.write_bytes(data)


def _encode(image_HW3: np.ndarray, suffix: str, *flags: int) -> bytes:
    try:
        done, data = cv2.imencode(suffix, cv2.cvtColor(image_HW3, cv2.COLOR_RGB2BGR), flags)
    except cv2.error:  # an unknown suffix
        return b""
    return data.tobytes() if done else b""


def shrink(image_HW3: np.ndarray, zoom: float) -> tuple[np.ndarray, np.ndarray]:
    """The image `zoom` times as large, and the affine (2, 3) to it, exact although its sides are rounded.

    Every pixel counts, unlike in a bilinear warp, which skips most of them. A zoom of 1 or more leaves the
    image as it is.
    """
    size_wh = np.array(image_HW3.shape[1::-1])
    small_wh = np.clip(np.rint(size_wh * zoom), 1, size_wh).astype(int)
    if (small_wh == size_wh).all():
        return image_HW3, np.eye(2, 3)
    zoom_xy = small_wh / size_wh
    affine = np.column_stack([np.diag(zoom_xy), 0.5 * zoom_xy - 0.5])
    return cv2.resize(image_HW3, small_wh.tolist(), interpolation=cv2.INTER_AREA), affine


def relative_name(name: Any, where: str) -> str:
    """An image's name in annotations, normalized; UserError beginning with `where` if it leads elsewhere.

    Either kind of separator counts, so that it leads nowhere on any system. Links within the folder are
    followed: annotations cannot make any, and data sets are often linked to where there is room for them.
    """
    posix, windows = PurePosixPath(str(name)), PureWindowsPath(str(name))
    usable = isinstance(name, str) and name.isprintable() and len(name) <= LONGEST_NAME
    if not usable or windows.anchor or ".." in windows.parts or not posix.name:
        raise UserError(f"{where} {str(name)[:60]!r} is not usable, expected a relative path without '..'")
    return str(posix)


def _jpeg_has_end(data: bytes) -> bool:
    """Whether an end marker follows the image's own data: a thumbnail in a segment before it has one too."""
    at = 2
    while 0 <= at <= len(data) - 4:
        marker = data[at + 1]
        if data[at] != 0xFF:  # stray bytes between segments: decoders skip them
            at = data.find(b"\xff", at)
        elif marker == 0xFF:  # filling
            at += 1
        elif marker == 0x01 or 0xD0 <= marker <= 0xD8:  # markers without content
            at += 2
        elif marker == _JPEG_SCAN:
            return data.rfind(_JPEG_END, at) >= 0
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return False


def _jpeg_has_gap(data: bytes, image_HW3: np.ndarray, name: str, upright: bool) -> bool:
    """Whether data ran out before the end marker: the decoder would then use more, and the image differ."""
    corner_43 = image_HW3[[0, 0, -1, -1], [0, -1, 0, -1]]  # if turned upright, the last pixel is in any
    if not (corner_43 == _LOST).all(axis=1).any():
        return False
    end = data.rfind(_JPEG_END)
    longer_HW3 = _decode(data[:end] + b"\0" + b"\x55" * 999 + data[end:], name, upright)
    return not np.array_equal(longer_HW3, image_HW3)


def _check_png(data: bytes, name: str) -> None:
    """UserError if a PNG's end is missing, or a checksum is wrong: OpenCV would show what comes before."""
    at = len(_PNG)
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            break
        if zlib.crc32(data[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            raise UserError(f"{name}: damaged PNG, a checksum is wrong")
        if kind == b"IEND":
            return
        at = end
    raise UserError(f"{name}: truncated PNG, its end is missing ({len(data)} bytes found)")
