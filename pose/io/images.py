"""Images read safely: one that is missing, damaged or cut short is a UserError that names it.

OpenCV does not refuse a JPEG or PNG that lacks data before its end: the lost part turns grey, and people
would be trained on grey boxes.
"""

from __future__ import annotations

import itertools
import re
import struct
import unicodedata
import zlib
from collections import defaultdict
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import cv2
import numpy as np

from pose.io.errors import UserError
from pose.io.files import atomic_write, read_bytes

FAR = 1e6  # px; no place in an image is further from its corner
LONGEST_NAME = 200  # characters: file systems refuse longer ones
_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
_BEGINNINGS = (_JPEG, _PNG, b"BM", b"II*\0", b"MM\0*")
_JPEG_FRAMES, _JPEG_RESTARTS, _JPEG_END, _JPEG_SCAN = range(0xC0, 0xC3), range(0xD0, 0xD8), 0xD9, 0xDA
_JPEG_BEFORE_DATA = (*_JPEG_RESTARTS, _JPEG_SCAN)
_JPEG_MARKER = re.compile(rb"\xff[^\0\xff]")  # as it ends a scan's data, in which 0xFF is followed by 0
_JPEG_PADDING = b"\xff\0" * 8  # as many bits as decoders read ahead, in no valid code
_EXIF, _EXIF_WITHIN, _EXIF_ORIENTATION = b"Exif\0\0", 2**16, 0x0112  # bytes from the beginning; a tag


def read_image(path: str | Path, *, upright: bool = False) -> np.ndarray:
    """Read an image file; arguments, result and errors as of `decode_image`."""
    return decode_image(read_bytes(path, "an image"), str(path), upright=upright)


def decode_image(data: bytes, name: str, *, upright: bool = False, packed: bool = False) -> np.ndarray:
    """Decode an image to (H, W, 3) uint8 RGB; UserError, naming it as `name`, if it is damaged or cut short.

    upright: turn it as its EXIF data says, for a user's own photographs. Annotations count pixels as they
    are stored: False. packed: it was checked when a set was prepared, and training should not pay for that
    again.
    """
    if not data:
        raise UserError(f"{name}: found an empty file, expected an image")
    if data.startswith(_PNG):
        _check_png(data, name)
    is_checked = is_jpeg(data) and not packed
    image_HW3 = _decode_jpeg(data, name, upright) if is_checked else _decode(data, upright)
    if image_HW3 is None:
        raise UserError(f"{name}: cannot be decoded, expected an image (JPEG, PNG, BMP, TIFF or WebP)")
    return image_HW3


def _decode(data: bytes, upright: bool) -> np.ndarray | None:
    """(H, W, 3) uint8 RGB; of deeper pixels the eight highest bits that are used. None if it is no image."""
    flags = cv2.IMREAD_COLOR_RGB if upright else cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    buffer = np.frombuffer(data, dtype=np.uint8)
    try:
        image_HW3: np.ndarray | None = cv2.imdecode(buffer, flags | cv2.IMREAD_ANYDEPTH)
        if image_HW3 is None or image_HW3.dtype == np.uint8:
            return image_HW3
        if image_HW3.dtype != np.uint16:
            return cv2.imdecode(buffer, flags)
        return eight_bits(image_HW3)
    except cv2.error:  # also of too many pixels, see `pose/__init__.py`
        return None


def eight_bits(deep: np.ndarray) -> np.ndarray:
    """Whole numbers from 0 on as uint8: the eight highest bits that are used.

    Cameras and converters store 10, 12 or 14 bits in 16: by the highest byte they would be black.
    """
    depth = int(deep.max()).bit_length()
    return (deep >> deep.dtype.type(max(0, depth - 8))).astype(np.uint8)


def is_image(head: bytes) -> bool:
    """Whether data begins as that of an image does; 12 bytes tell."""
    return head.startswith(_BEGINNINGS) or (head.startswith(b"RIFF") and head[8:12] == b"WEBP")


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
        known = ".jpg" if suffix.lower() == ".jfif" else suffix
        done, data = cv2.imencode(known, cv2.cvtColor(image_HW3, cv2.COLOR_RGB2BGR), flags)
    except cv2.error:  # an unknown suffix
        return b""
    return data.tobytes() if done else b""


def exif_orientation(data: bytes) -> int:
    """How an image's EXIF data says to turn it, 2 to 8; 1 if it does not, 0 if that cannot be read."""
    at = data.find(_EXIF, 0, _EXIF_WITHIN) + len(_EXIF)
    if at < len(_EXIF):
        return 1
    order = "<" if data.startswith(b"II", at) else ">"
    try:
        first = at + struct.unpack_from(f"{order}4xI", data, at)[0]
        for number in range(struct.unpack_from(f"{order}H", data, first)[0]):
            tag, value = struct.unpack_from(f"{order}H6xH", data, first + 2 + 12 * number)
            if tag == _EXIF_ORIENTATION:
                return value if 1 <= value <= 8 else 0
    except struct.error:
        return 0
    return 1


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
    # isprintable() refuses all spaces but the usual one; macOS writes narrow ones into names of screenshots.
    usable = isinstance(name, str) and len(name) <= LONGEST_NAME
    usable = usable and all(one.isprintable() or unicodedata.category(one) == "Zs" for one in name)
    if not usable or windows.anchor or ".." in windows.parts or not posix.name:
        raise UserError(f"{where} {str(name)[:60]!r} is not usable, expected a relative path without '..'")
    return str(posix)


def _decode_jpeg(data: bytes, name: str, upright: bool) -> np.ndarray | None:
    """`_decode`, refusing an image whose data ends too early: at any marker decoders go on with grey.

    Of an image in one scan, as most are, the end of its data and the order of its restart markers are
    checked. Of a progressive one only whether all scans are there, not whether each is complete: libjpeg
    would print a complaint about sound images too. A cut in the last scan, its finest, is hardly seen.
    """
    markers = _jpeg_markers(data)
    if not markers or markers[-1][0] != _JPEG_END:
        raise UserError(f"{name}: truncated JPEG, its end is missing ({len(data)} bytes found)")
    if [kind for kind, _ in markers].count(_JPEG_SCAN) == 1:
        restarts = [kind - _JPEG_RESTARTS[0] for kind, _ in markers if kind in _JPEG_RESTARTS]
        [*_, end] = [end for (kind, _), (_, end) in itertools.pairwise(markers) if kind in _JPEG_BEFORE_DATA]
        # A decoder that also wants what is behind the data finds no marker there, and gives up. It says
        # nothing of data that is complete; before any other marker it would print that there is too much.
        image_HW3 = _decode(data[:end].rstrip(b"\xff") + _JPEG_PADDING, upright)
        if image_HW3 is not None and restarts == [n % 8 for n in range(len(restarts))]:
            return image_HW3
    elif _jpeg_has_all_scans(data, markers):
        return _decode(data, upright)
    if _decode(data, upright) is None:
        return None  # no JPEG that can be read at all
    raise UserError(f"{name}: damaged JPEG, data is missing before its end")


def _jpeg_markers(data: bytes) -> list[tuple[int, int]]:
    """The second byte and the place of each marker up to the end; a thumbnail's are within a segment."""
    markers, at = [], 2
    while 0 <= at <= len(data) - 2:
        kind = data[at + 1]
        if data[at] != 0xFF:  # stray bytes between segments: decoders skip them
            at = data.find(b"\xff", at)
            continue
        if kind == 0xFF:  # filling
            at += 1
            continue
        markers.append((kind, at))
        if kind == _JPEG_END:
            break
        bare = kind in (0x01, 0xD8) or kind in _JPEG_RESTARTS
        at += 2 if bare else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if kind in _JPEG_BEFORE_DATA:
            found = _JPEG_MARKER.search(data, at)
            at = found.start() if found else len(data)
    return markers


def _jpeg_has_all_scans(data: bytes, markers: list[tuple[int, int]]) -> bool:
    """Whether every component's 64 coefficients come, down to their last bit."""
    components, found = 1, defaultdict[int, set[int]](set)
    for kind, at in markers:
        if kind in _JPEG_FRAMES:
            components = data[at + 9]
        elif kind == _JPEG_SCAN:
            after = at + 5 + 2 * data[at + 4]
            first, last, bits = data[after : after + 3]
            for component in data[at + 5 : after : 2] if bits % 16 == 0 else b"":
                found[component].update(range(first, last + 1))
    return sum(len(coefficients) for coefficients in found.values()) >= 64 * components


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
