"""Images of a user, from wherever they are: files, URLs, Pillow, arrays.

A URL that does not answer is a UserError after a time, and never waited for without end.
"""

from __future__ import annotations

import base64
import sys
from functools import partial
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit
from urllib.request import Request, urlopen

import numpy as np

from pose.io.errors import UserError, reading, within
from pose.io.images import decode_image, read_image

IMAGE_SUFFIXES = {".bmp", ".jfif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
STREAM_SCHEMES = {"rtsp", "rtsps", "rtmp"}
SCHEMES = {"http", "https"} | STREAM_SCHEMES
TIMEOUT = 10.0  # seconds
MAX_BYTES = 2**28  # of an image


class VideoFound(UserError):
    """A URL that gives a video or a stream where an image was expected."""


def is_url(source: Any) -> bool:
    """Whether it is a URL of a scheme that can be read."""
    return isinstance(source, str) and source.partition("://")[0].lower() in SCHEMES and "://" in source


def public_name(url: str) -> str:
    """The URL without user and password, for messages and results."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def load_image(image: Any, timeout: float = TIMEOUT, *, name: str = "image") -> np.ndarray:
    """An image as (H, W, 3) uint8 RGB.

    image: a path, a URL, an image of Pillow, or an array, which must be of that form. Files and Pillow's
    images are turned upright as their EXIF data says. timeout: seconds until a URL must have given all.
    UserError, with `name` for what has no name of its own, for anything else.
    """
    if is_url(image):
        return fetch_image(image, timeout)
    if isinstance(image, (str, Path)):
        return read_image(image, upright=True)
    pillow = sys.modules.get("PIL.Image")
    if pillow is not None and isinstance(image, pillow.Image):
        from PIL import ImageOps

        with reading(name, "an image"):
            return np.array(ImageOps.exif_transpose(image).convert("RGB"))
    expected = "expected uint8 of shape (height, width, 3), a path, a URL or an image of Pillow"
    if not isinstance(image, np.ndarray):
        raise UserError(f"{name}: found {type(image).__name__}, {expected}")
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise UserError(f"{name}: found {image.dtype} of shape {image.shape}, {expected}")
    return image


def fetch_image(url: str, timeout: float) -> np.ndarray:
    """The image of an HTTP URL; VideoFound for a video, UserError for anything else."""
    name = public_name(url)
    if urlsplit(url).scheme.lower() in STREAM_SCHEMES:
        raise VideoFound(f"{name}: found a stream, expected an image")
    return decode_image(within(timeout, name, partial(_download, url, timeout)), name, upright=True)


def _download(url: str, timeout: float) -> bytes:
    """Its bytes. `within` bounds the whole; the time limit here, a little later, only ends the thread."""
    name, parts = public_name(url), urlsplit(url)
    request = Request(name, headers={"User-Agent": "pose"})
    if parts.username is not None:
        user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        request.add_unredirected_header("Authorization", f"Basic {base64.b64encode(user.encode()).decode()}")
    try:
        with reading(name, "an image"), urlopen(request, timeout=timeout + 1) as response:
            kind = response.headers.get_content_type()
            is_image = kind.startswith("image/") or Path(parts.path).suffix.lower() in IMAGE_SUFFIXES
            if kind.startswith(("video/", "multipart/", "application/")) and not is_image:
                raise VideoFound(f"{name}: found {kind}, expected an image")
            if not is_image:
                raise UserError(f"{name}: found {kind}, expected an image or a video")
            data: bytes = response.read(MAX_BYTES + 1)
    except UserError as error:
        cause = error.__cause__
        if isinstance(cause, HTTPError):
            raise UserError(f"{name}: found HTTP {cause.code} {cause.reason}, expected an image") from None
        if isinstance(cause, URLError):
            raise UserError(f"{name}: cannot be read ({cause.reason})") from None
        raise
    if len(data) > MAX_BYTES:
        raise UserError(f"{name}: found more than {MAX_BYTES:,} bytes, expected an image")
    return data
