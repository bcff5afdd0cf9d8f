"""What `pose predict` is given: files, folders, globs, cameras and URLs, planned before any is read."""

from __future__ import annotations

import glob
import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

from pose.inference.images import IMAGE_SUFFIXES, STREAM_SCHEMES, is_url, public_name
from pose.io.errors import UserError, reading
from pose.io.video import VIDEO_SUFFIXES

READABLE = IMAGE_SUFFIXES | VIDEO_SUFFIXES
CAMERA_DIGITS = 3  # of a camera's number; OpenCV knows none of more

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """One image, video or stream.

    place: a file, a URL, or the number of a camera. name: in results and messages. copy: the name of its
    drawn copy as an image, relative to the folder of the results. kind: `unknown` of a URL is told by its
    answer.
    """

    place: Path | str | int
    name: str
    copy: Path
    kind: Literal["image", "video", "unknown"]

    @property
    def video_copy(self) -> Path:
        """The name of its drawn copy as a video."""
        return self.copy.with_name(f"{self.copy.stem}.mp4")

    def copies(self) -> set[Path]:
        """All names that its drawn copy may have."""
        return {*([self.copy] * (self.kind != "video")), *([self.video_copy] * (self.kind != "image"))}


def plan(given: Iterable[str | Path], *, out: Path | None, recursive: bool = False) -> list[Source]:
    """The sources in their order, each once; a folder stands for the images and videos in it.

    out: the folder of drawn copies, None if nothing is drawn. recursive: also for those in its folders.
    UserError for a file that does not exist or would be overwritten, or for two copies of one name. URLs and
    cameras are not asked.
    """
    sources: dict[Path | str | int, Source] = {}
    for one in given:
        with reading(public_name(str(one))[:200], "a source"):  # a path may be too long, a URL no URL
            for source in _sources([one], recursive):
                key = source.place.resolve() if isinstance(source.place, Path) else source.place
                sources.setdefault(key, source)
    if out:
        _check_copies(sources, out)
    return [*sources.values()]


def _check_copies(sources: Mapping[Path | str | int, Source], out: Path) -> None:
    """UserError if a drawn copy would replace a source, perhaps another one, or another copy."""
    source_of: dict[Path, Source] = {}
    for source in sources.values():
        for target in (out / copy for copy in source.copies()):
            if original := sources.get(target.resolve()):
                expected = f"expected another folder than {out} for the results"
                whose = "its drawn copy" if original is source else f"the drawn copy of {source.name}"
                raise UserError(f"{original.name}: would be overwritten by {whose}, {expected}")
            if (other := source_of.setdefault(target, source)) is not source:
                found = f"{other.name} would be drawn as {target} too"
                raise UserError(f"{source.name}: {found}, expected different names (or --no-draw)")


def _sources(given: Iterable[str | Path], recursive: bool) -> Iterator[Source]:
    for one in given:
        text = str(one)
        if is_url(text):
            yield _of_url(text)
        elif (path := Path(one)).is_dir():
            yield from _of_folder(path, recursive)
        elif path.exists():
            yield _of_file(path, Path(path.name))
        elif text.isdecimal() and len(text) <= CAMERA_DIGITS:
            yield Source(int(text), f"camera {text}", Path(f"camera{text}"), "video")
        elif glob.has_magic(text):
            found = [Path(one) for one in sorted(glob.glob(text, recursive=True))]
            files = [path for path in found if path.suffix.lower() in READABLE and not path.is_dir()]
            if not found:
                raise UserError(f"{text}: no file fits")
            # `*` also fits folders and files of other kinds, which a folder would leave out too.
            if files and (rest := len(found) - len(files)):
                log.warning("%s: left out: %d that are no image or video", text, rest)
            yield from _sources(files or found, recursive)
        else:
            raise UserError(f"{text}: no such file or folder")


def _of_file(path: Path, copy: Path) -> Source:
    suffix = path.suffix.lower()
    if suffix in VIDEO_SUFFIXES:
        return Source(path, str(path), copy, "video")
    return Source(path, str(path), copy if suffix in IMAGE_SUFFIXES else Path(f"{copy}.jpg"), "image")


def _of_url(url: str) -> Source:
    if not url.isascii():  # FFmpeg as OpenCV calls it crashes at some others
        raise UserError(f"{public_name(url)}: found a character that is not ASCII, expected it as %XX")
    parts = urlsplit(url)
    # Beginning with the host: streams of several cameras often differ in nothing else.
    place = f"{parts.netloc.rpartition('@')[2]}{unquote(parts.path)}"
    path = Path(re.sub(r"[^\w.-]+", "_", place).strip("_.")[-100:] or "url")
    suffix = Path(parts.path).suffix.lower()
    if parts.scheme.lower() in STREAM_SCHEMES or suffix in VIDEO_SUFFIXES:
        return Source(url, public_name(url), path, "video")
    if suffix in IMAGE_SUFFIXES:
        return Source(url, public_name(url), path, "image")
    return Source(url, public_name(url), path.with_name(f"{path.name}.jpg"), "unknown")


def _of_folder(folder: Path, recursive: bool) -> Iterator[Source]:
    left_out, inside = Counter[str](), list[Path]()
    for path in sorted(folder.rglob("*") if recursive else folder.iterdir()):
        suffix = path.suffix.lower()
        # Of the system, such as the `._a.jpg` beside a Mac's `a.jpg`.
        if any(part.startswith(".") for part in path.relative_to(folder).parts):
            continue
        if suffix in READABLE and not path.is_dir():
            inside.append(path)
        elif not (recursive and path.is_dir()):
            left_out["folder" if path.is_dir() else suffix or "without suffix"] += 1
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(left_out.items()))
    if not inside:
        more = f" (left out: {kinds})" if kinds else ""
        raise UserError(f"{folder}: found no images or videos in this folder{more}")
    if kinds:
        log.warning("%s: left out: %s", folder, kinds)
    for path in inside:
        yield _of_file(path, path.relative_to(folder))


def image_ids(sources: Sequence[Source]) -> dict[str, int]:
    """COCO's ids by the sources' names: the numbers that all files are called by; else none."""
    stems = [source.copy.stem if source.kind == "image" else "" for source in sources]
    numbers = [int(stem) for stem in stems if stem.isdecimal()]
    if len({*numbers}) < len(sources):
        return {}
    return {source.name: number for source, number in zip(sources, numbers, strict=True)}
