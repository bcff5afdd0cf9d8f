"""Files read, or refused by name, and written so that they appear complete or not at all."""

from __future__ import annotations

import functools
import gzip
import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import psutil

from pose.io.errors import UserError, reading

T = TypeVar("T")

OURS = "pose-"  # in the names of unfinished files, beside the process id: others' hidden files are left alone

# Several times as many as the largest file of COCO has.
MAX_JSON = {"bytes": 2**31, "values": 200_000_000, "lists and objects": 20_000_000}


@contextmanager
def atomic_write(path: str | Path, *, sync: bool = False, backup: Path | None = None) -> Iterator[Path]:
    """A path to write to: its file replaces `path` at the end of the block, or is removed if the block fails.

    It lies beside `path`, so that the rename is one step, and has its suffix. A link is replaced, not
    followed: behind it may lie a file of DVC's cache. Missing folders are made. sync: flushed to the disk
    before the rename, so that a power failure leaves the old file or the new one. backup: where the replaced
    file is kept. UserError, naming `path`, if the disk is full or not writable.
    """
    path = Path(path)
    temporary = path.with_name(f".{os.getpid()}.{OURS}{path.name}")
    try:
        with writing(path, temporary):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            if sync:
                _fsync(temporary)
            if backup and path.exists():
                os.replace(path, backup)
            os.replace(temporary, path)
            if sync:
                _fsync(path.parent)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def writing(path: Path, temporary: Path | None = None) -> Iterator[None]:
    """A file or folder that cannot be written, or removed, is a UserError that names it.

    Errors of other files, which are read meanwhile, are passed on; those within `temporary` are no others.
    """
    try:
        yield
    except OSError as error:
        name = Path(error.filename or path)
        if not (path.is_relative_to(name) or name.is_relative_to(temporary or path)):
            raise
        raise UserError(f"{path}: cannot be written ({error.strerror or error})") from None


def _fsync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():
        return  # Windows opens no folder
    handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_stale_temp_files(*folders: str | Path) -> None:
    """Remove the temporary files of `atomic_write` whose process no longer runs."""
    for path in (path for folder in folders for path in Path(folder).glob(f".[0-9]*.{OURS}*")):
        number = path.name.split(".")[1]
        if number.isdecimal() and (int(number) == os.getpid() or not psutil.pid_exists(int(number))):
            with suppress(OSError):
                path.unlink(missing_ok=True)


@contextmanager
def atomic_folder(folder: str | Path) -> Iterator[Path]:
    """An empty folder, which replaces `folder` at the end of the block, or is removed if the block fails.

    UserError, naming `folder`, if the disk is full or not writable.
    """
    folder = Path(folder)
    # No process id in the names: what a killed process leaves is large, and the next one removes it.
    unfinished, old = folder.with_name(f".{folder.name}.unfinished"), folder.with_name(f".{folder.name}.old")
    for leftover in (unfinished, old):
        shutil.rmtree(leftover, ignore_errors=True)
    try:
        with writing(folder, unfinished):
            unfinished.mkdir(parents=True)
            yield unfinished
            if folder.exists():  # a folder cannot be renamed over one that is not empty
                os.replace(folder, old)
            try:
                os.replace(unfinished, folder)
            except OSError:
                with suppress(OSError):
                    os.replace(old, folder)
                raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
        if folder.exists():  # else the old one is all there is
            shutil.rmtree(old, ignore_errors=True)


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text atomically, its line ends as they are."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def write_json(path: str | Path, values: Any) -> None:
    """Write plain values as indented JSON, atomically."""
    write_text(path, json.dumps(values, indent=2) + "\n")


def file_hash(*paths: str | Path) -> str:
    """MD5 of a file, as DVC's lock file has it, or of several one after the other."""
    digest = hashlib.md5(usedforsecurity=False)
    for path in paths:
        with reading(path, "a file"), Path(path).open("rb") as file:
            while block := file.read(2**20):
                digest.update(block)
    return digest.hexdigest()


def file_signature(path: str | Path) -> tuple[int, int] | None:
    """Size and time of a file, which tell whether it was written anew; None if it is not there."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def check_regular_file(path: str | Path, expected: str = "a file") -> None:
    """UserError for what does not exist, or is a folder, a pipe or a device: those may never end."""
    path = Path(path)
    with reading(path, expected):
        if path.is_file():
            return
        found = "is not a regular file" if path.exists() else "no such file"
        raise UserError(f"{path}: {'is a folder' if path.is_dir() else found}, expected {expected}")


def check_target(target: str | Path, source: str | Path, suffixes: Sequence[str]) -> None:
    """UserError for a file to be written that would replace what it is made of, or whose name misleads.

    suffixes: by which its format is known.
    """
    target = Path(target)
    if target.suffix not in suffixes:
        raise UserError(f"{target}: found the ending {target.suffix!r}, expected {' or '.join(suffixes)}")
    if target.exists() and Path(source).exists() and target.samefile(source):
        raise UserError(f"{target}: found the source itself, expected another file to write")


def read_bytes(path: str | Path, expected: str = "a file") -> bytes:
    """The content of a file; UserError if it cannot be read. expected: what it should be, for a message."""
    check_regular_file(path, expected)
    with reading(path, expected):
        return Path(path).read_bytes()


def read_text(path: str | Path) -> str:
    """UTF-8 text, its line ends as they are; UserError if it cannot be read."""
    with reading(path, "text"):
        return read_bytes(path).decode("utf-8")


def read_json(path: str | Path, *, without: Set[str] = frozenset()) -> Any:
    """The content of a JSON file, packed if its suffix is `.gz`.

    without: keys that are left out of its objects as they are read, so that their values take no memory.
    UserError if it is missing or damaged, or of more values or bytes than any data set: a small packed file
    can hold more than memory does.
    """
    with reading(path, "JSON"):
        data = read_bytes(path)
        if Path(path).suffix == ".gz":
            data = gzip.GzipFile(fileobj=io.BytesIO(data)).read(MAX_JSON["bytes"] + 1)
        counts = {
            "bytes": len(data),
            "values": data.count(b","),
            "lists and objects": data.count(b"{") + data.count(b"["),
        }
        for unit, most in MAX_JSON.items():
            if counts[unit] > most:
                raise ValueError(f"found more than {most:,} {unit}, expected fewer")
        text = data.decode(json.detect_encoding(data), "surrogatepass")
        del data  # of large files: it is as large as the text

        def kept(value: dict[str, Any]) -> dict[str, Any]:
            if without.isdisjoint(value):
                return value
            return {key: part for key, part in value.items() if key not in without}

        hook = kept if without else None
        return json.loads(text, parse_float=_cached(float), parse_int=_cached(int), object_hook=hook)


def _cached(number: Callable[[str], T]) -> Callable[[str], T]:
    """Equal numbers of a file are one object: most of COCO's memory would be coordinates, a number each."""
    return functools.lru_cache(maxsize=2**16)(number)
