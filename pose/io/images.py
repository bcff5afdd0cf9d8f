"""Reading pictures safely.

A file that is missing, damaged, cut short or too large is the user's to know, by name.

OpenCV fills the lost part of a truncated JPEG with grey and says nothing, so that people would be trained on
grey boxes. It makes room for whatever size a few bytes declare, so that is looked at first; formats whose
sizes are not known here are not decoded.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import cv2
import numpy as np

from pose.io.errors import UserError
from pose.io.files import read_bytes

_JPEG_START = b"\xff\xd8\xff"
_JPEG_END = b"\xff\xd9"
_PNG_START = b"\x89PNG\r\n\x1a\n"
FAR = 1e6  # px; no place in a picture is further from its corner
LONGEST_NAME = 200  # characters: file systems refuse longer ones
MAX_PIXELS = 250_000_000  # of a picture: cameras have 200 million; it takes three bytes each


def read_image(path: str | Path, *, upright: bool = False) -> np.ndarray:
    """Read a picture as (H, W, 3) uint8 RGB.

    UserError, naming the file, if it is missing, not a picture or cut short.

    upright: turn it as its EXIF data says, for a user's own photographs. Annotations count pixels as they are
    stored: False.
    """
    return decode_image(read_picture(path), str(path), upright=upright)


def read_picture(path: str | Path) -> bytes:
    """An encoded picture; UserError, naming it, if it cannot be had."""
    return read_bytes(path, "a picture")


def decode_image(data: bytes, name: str, *, upright: bool = False) -> np.ndarray:
    """Decode an encoded picture to (H, W, 3) uint8 RGB.

    UserError, naming it as `name`, if it is damaged or cut short.
    """
    if not data:
        raise UserError(f"{name}: found an empty file, expected a picture")
    size_of = next((size_of for start, size_of in _SIZES.items() if data.startswith(start)), None)
    if size_of is None:
        raise UserError(f"{name}: cannot be decoded, expected a picture (JPEG, PNG, BMP, TIFF or WebP)")
    if data.startswith(_JPEG_START) and not _jpeg_is_whole(data):
        raise UserError(f"{name}: truncated JPEG, its end is missing ({len(data)} bytes found)")
    if data.startswith(_PNG_START):
        _check_png(data, name)
    try:
        width, height = size_of(data)
    except (struct.error, StopIteration):
        raise UserError(f"{name}: cannot be decoded, its size is missing") from None
    if not 0 < width * height <= MAX_PIXELS:
        raise UserError(
            f"{name}: found {width} x {height} px, expected at least one and at most {MAX_PIXELS:,} in all"
        )
    flags = cv2.IMREAD_COLOR_RGB if upright else cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image_HW3 = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), flags)
    except cv2.error as error:
        raise UserError(f"{name}: cannot be decoded ({' '.join(str(error).split())})") from None
    if image_HW3 is None:
        raise UserError(f"{name}: cannot be decoded, damaged")
    return image_HW3


def is_jpeg(data: bytes) -> bool:
    """Whether the data begins as a JPEG does."""
    return data.startswith(_JPEG_START)


def encode_jpeg(image_HW3: np.ndarray, quality: int) -> bytes:
    """Encode an (H, W, 3) uint8 RGB picture; quality 1 to 100."""
    done, data = cv2.imencode(
        ".jpg", cv2.cvtColor(image_HW3, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    assert done, f"JPEG encoder refused a picture of shape {image_HW3.shape}"
    return data.tobytes()


def shrink(image_HW3: np.ndarray, zoom: float) -> tuple[np.ndarray, np.ndarray]:
    """The picture `zoom` times as large, and the affine (2, 3) to it, exact although its sides are whole numbers of px.

    Every pixel counts, unlike in a bilinear warp, which skips most of them. A zoom of 1 or more leaves the
    picture as it is.
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

    Either kind of separator counts, so that it leads nowhere on any system. Links within the folder are
    followed: annotations cannot make any, and data sets are often linked to where there is room for them.
    """
    posix, windows = PurePosixPath(str(name)), PureWindowsPath(str(name))
    usable = isinstance(name, str) and name.isprintable() and len(name) <= LONGEST_NAME
    if not usable or windows.anchor or ".." in windows.parts or not posix.name:
        raise UserError(f"{where} {str(name)[:60]!r} is not usable, expected a relative path without '..'")
    return str(posix)


def _jpeg_is_whole(data: bytes) -> bool:
    """Whether an end marker follows the picture's own data, in which a 0xFF is always followed by a zero or a restart marker."""
    start = next((at for marker, at in _jpeg_segments(data) if marker == _SCAN), None)
    return start is not None and data.rfind(_JPEG_END, start) >= 0


_SCAN = 0xDA  # start of the picture's data


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Marker and place of each segment up to the picture's data.

    They are stepped over: a thumbnail in one of them has segments too.
    """
    at = 2
    while 0 <= at <= len(data) - 4:
        marker = data[at + 1]
        if data[at] != 0xFF:  # stray bytes between segments: decoders skip them
            at = data.find(b"\xff", at)
        elif marker == 0xFF:  # filling
            at += 1
        elif marker == 0x01 or 0xD0 <= marker <= 0xD8:  # markers without content
            at += 2
        else:
            yield marker, at
            if marker == _SCAN:
                return
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")


def _check_png(data: bytes, name: str) -> None:
    """UserError if a PNG's end is missing, or a checksum is wrong: OpenCV would show what comes before."""
    at = len(_PNG_START)
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


# Width and height, px, as a picture's first bytes declare them; struct.error or StopIteration if they do not.


def _jpeg_size(data: bytes) -> tuple[int, int]:
    # Every frame header, whatever its coding; three markers among theirs are tables.
    frame = next(
        at
        for marker, at in _jpeg_segments(data)
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)
    )
    height, width = struct.unpack_from(">HH", data, frame + 5)
    return width, height


def _png_size(data: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from(">II", data, 16)
    return width, height


def _bmp_size(data: bytes) -> tuple[int, int]:
    old = data[14:18] == b"\x0c\0\0\0"
    width, height = struct.unpack_from("<HH" if old else "<ii", data, 18)
    return width, abs(height)  # below 0: its rows go from the top down


def _tiff_size(data: bytes) -> tuple[int, int]:
    order = "<" if data.startswith(b"II") else ">"
    (directory,) = struct.unpack_from(f"{order}I", data, 4)
    (count,) = struct.unpack_from(f"{order}H", data, directory)
    values: dict[int, int] = {}
    for number in range(count):
        tag, kind, _, long = struct.unpack_from(f"{order}HHII", data, directory + 2 + 12 * number)
        short: int = struct.unpack_from(f"{order}H", data, directory + 10 + 12 * number)[0]
        values[tag] = max(values.get(tag, 0), short if kind == 3 else long)
    return values.get(256, 0), values.get(257, 0)


def _webp_size(data: bytes) -> tuple[int, int]:
    if data[8:12] != b"WEBP":
        return 0, 0
    if data[12:16] == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if data[12:16] == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack_from("<HH", data, 26)
    return width & 0x3FFF, height & 0x3FFF


_SIZES: dict[bytes, Callable[[bytes], tuple[int, int]]] = {
    _JPEG_START: _jpeg_size,
    _PNG_START: _png_size,
    b"BM": _bmp_size,
    b"II*\0": _tiff_size,
    b"MM\0*": _tiff_size,
    b"RIFF": _webp_size,
}
