"""Images of a user, from wherever they are: files, URLs, Pillow, arrays.

A URL that does not answer is a UserError after a time, and never waited for without end. A user and a
password in it are used, and are in no message or name.
"""

from __future__ import annotations

import base64
import re
import sys
from functools import partial
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit
from urllib.request import Request, urlopen

import numpy as np

from pose.io.errors import UserError, reading, within
from pose.io.images import decode_image, eight_bits, is_image, read_image

IMAGE_SUFFIXES = {".bmp", ".jfif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
STREAM_SCHEMES = {"rtsp", "rtsps", "rtmp"}
HTTP_SCHEMES = {"http", "https"}
SCHEMES = HTTP_SCHEMES | STREAM_SCHEMES
TIMEOUT = 10.0  # seconds
MAX_BYTES = 2**28  # of an image


class VideoFound(UserError):
    """A URL that gives a video or a stream where an image was expected."""


def scheme(source: Any) -> str:
    """`https` of `HTTPS://host/path`; empty for what is no URL."""
    return source.partition("://")[0].lower() if isinstance(source, str) and "://" in source else ""


def is_url(source: Any) -> bool:
    """Whether it is a URL of a scheme that can be read."""
    return scheme(source) in SCHEMES


def public_name(url: str) -> str:
    """The URL without user and password, for messages and results; what is no URL stays as it is."""
    return re.sub(r"(?<=://)[^/?#]*@", "", url, count=1)


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
            upright = ImageOps.exif_transpose(image)
            if upright.mode.startswith("I"):  # Pillow would cut off at 255
                return np.repeat(eight_bits(np.asarray(upright).clip(0))[..., None], 3, axis=2)
            return np.array(upright.convert("RGB"))
    expected = "expected uint8 of shape (height, width, 3), a path, a URL or an image of Pillow"
    if not isinstance(image, np.ndarray):
        raise UserError(f"{name}: found {type(image).__name__}, {expected}")
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise UserError(f"{name}: found {image.dtype} of shape {image.shape}, {expected}")
    return image


def fetch_image(url: str, timeout: float) -> np.ndarray:
    """The image of an HTTP URL; VideoFound for a video, UserError for anything else."""
    name = public_name(url)
    if scheme(url) in STREAM_SCHEMES:
        raise VideoFound(f"{name}: found a stream, expected an image")
    return decode_image(within(timeout, name, partial(_download, url, timeout)), name, upright=True)


def _download(url: str, timeout: float) -> bytes:
    """Its bytes. `within` bounds the whole; the time limit here, a little later, only ends the thread."""
    name = public_name(url)
    with reading(name, "an image"), open_url(url, "an image", timeout + 1) as response:
        kind = response.headers.get_content_type() if "Content-Type" in response.headers else ""
        head: bytes = response.read(12)
        shown = kind.startswith("image/") or Path(urlsplit(url).path).suffix.lower() in IMAGE_SUFFIXES
        is_general = not kind or kind.endswith("/octet-stream")  # of servers that do not know better
        if not (shown or (is_general and is_image(head))):
            if is_general or kind.startswith(("video/", "multipart/", "application/")):
                raise VideoFound(f"{name}: found {kind or 'no type'}, expected an image")
            raise UserError(f"{name}: found {kind}, expected an image or a video")
        data = head + response.read(MAX_BYTES + 1 - len(head))
    if len(data) > MAX_BYTES:
        raise UserError(f"{name}: found more than {MAX_BYTES:,} bytes, expected an image")
    return data


def open_url(url: str, kind: str, timeout: float) -> Any:
    """The answer of an HTTP URL, to be closed; no redirect is given the password.

    kind: what it should be, for messages. timeout: seconds of one wait; `within` bounds all of them together.
    UserError, naming the URL, for one that does not answer or answers with an error.
    """
    name = public_name(url)
    with reading(name, kind):
        parts = urlsplit(url)
        request = Request(name, headers={"User-Agent": "pose"})
        if parts.username is not None:
            user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            code = base64.b64encode(user.encode()).decode()
            request.add_unredirected_header("Authorization", f"Basic {code}")
        try:
            return urlopen(request, timeout=timeout)
        except HTTPError as error:
            raise UserError(f"{name}: found HTTP {error.code} {error.reason}, expected {kind}") from None
        except URLError as error:
            raise UserError(f"{name}: cannot be read ({error.reason})") from None
