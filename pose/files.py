"""Files: read, or refused by name; written so that they appear whole or not at all, whenever the process that writes them ends."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from pose.errors import UserError

MOST_BYTES = 2**30  # of a file that is read whole: twice what COCO's longest list of annotations has
MOST_UNPACKED = 2**28  # bytes that a packed one may unpack to: gzip makes a thousand of one


@contextmanager
def written_whole(path: str | Path, *, synced: bool = False, before: Path | None = None) -> Iterator[Path]:
    """A path to write to, whose file takes the place of `path` at the end of the block, or goes if the block fails.

    It lies beside `path`, which makes renaming one step that no reader sees half of, and ends like it, for writers that go by a
    name's ending. A link is replaced, not followed: behind it may lie a file of DVC's cache. Missing folders are made.
    synced: on the disk before it is renamed, so that even a machine that loses power has the old file or the new one.
    before: where the file that it takes the place of is kept. UserError, naming `path`, if the disk is full or refuses to be written to.
    """
    path = Path(path)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if synced:
            _sync(temporary)
        if before and path.exists():
            os.replace(path, before)
        os.replace(temporary, path)
        if synced:
            _sync(path.parent)
    except OSError as error:
        if error.filename not in (None, str(temporary), str(path), str(path.parent)):
            raise  # of another file that was read meanwhile
        raise UserError(f"{path}: cannot be written ({error.strerror or error})") from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sweep(folder: str | Path) -> None:
    """Remove what processes that are gone left unfinished there (`written_whole`)."""
    for path in Path(folder).glob(".[0-9]*.*"):
        number = path.name.split(".")[1]
        if number.isdecimal() and (int(number) == os.getpid() or not psutil.pid_exists(int(number))):
            path.unlink(missing_ok=True)


@contextmanager
def whole_folder(folder: str | Path) -> Iterator[Path]:
    """An empty folder to fill, which takes the place of `folder` at the end of the block, or goes if the block fails."""
    folder = Path(folder)
    # Names without the process's: a folder left over from one that was killed is large, and goes when the next one begins.
    unfinished, old = folder.with_name(f".{folder.name}.unfinished"), folder.with_name(f".{folder.name}.old")
    for leftover in (unfinished, old):
        shutil.rmtree(leftover, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        yield unfinished
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    if folder.exists():  # a folder cannot be renamed over one that holds something
        os.replace(folder, old)
    os.replace(unfinished, folder)
    shutil.rmtree(old, ignore_errors=True)


def write_text(path: str | Path, text: str) -> None:
    """Text as UTF-8, whole, its line ends as they are."""
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def write_json(path: str | Path, values: Any) -> None:
    """Plain values as JSON, whole, for people to read too."""
    write_text(path, json.dumps(values, indent=2) + "\n")


def file_hash(*paths: str | Path) -> str:
    """MD5 of a file, as DVC's lock file names it; of several, of one after the other. UserError if one cannot be had."""
    digest = hashlib.md5(usedforsecurity=False)
    for path in paths:
        try:
            with Path(path).open("rb") as file:
                while block := file.read(2**20):
                    digest.update(block)
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
    return digest.hexdigest()


def read_bytes(path: str | Path, expected: str = "") -> bytes:
    """The content of a file; UserError if it cannot be had, or is too large to be what it should be. expected: such as `a picture`."""
    try:
        about = Path(path).stat()
        if not (stat.S_ISREG(about.st_mode) or stat.S_ISDIR(about.st_mode)):  # a pipe or device may never end
            raise UserError(f"{path}: is no regular file" + (f", expected {expected}" if expected else ""))
        if about.st_size > MOST_BYTES:
            raise UserError(f"{path}: found {about.st_size:,} bytes, expected at most {MOST_BYTES:,}")
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file" + (f", expected {expected}" if expected else "")) from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None


def read_text(path: str | Path) -> str:
    """UTF-8 text, its line ends as they are; UserError if it cannot be had."""
    try:
        return read_bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: cannot be read ({error})") from None


def read_json(path: str | Path) -> Any:
    """The content of a JSON file, plain or, by its name, packed with gzip; UserError if it cannot be had, or is something else."""
    data = read_bytes(path)
    try:
        if Path(path).suffix == ".gz":
            data = gzip.GzipFile(fileobj=io.BytesIO(data)).read(MOST_UNPACKED + 1)
            if len(data) > MOST_UNPACKED:
                raise UserError(f"{path}: unpacks to more than {MOST_UNPACKED:,} bytes, expected fewer")
        return json.loads(data)
    except UserError:
        raise
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read, damaged or cut short ({error})") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON, or cut short ({error})") from None
