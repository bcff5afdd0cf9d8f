"""Files: read, or refused by name; written so that they appear whole or not at all, whenever the process that writes them ends."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pose.errors import UserError


@contextmanager
def written_whole(path: str | Path, *, synced: bool = False) -> Iterator[Path]:
    """A path to write to, whose file takes the place of `path` at the end of the block, or goes if the block fails.

    It lies beside `path`, which makes renaming one step that no reader sees half of, and ends like it, for writers that go by a
    name's ending. A link is replaced, not followed: behind it may lie a file of DVC's cache. Missing folders are made.
    synced: on the disk before it is renamed, so that even a machine that loses power has the old file or the new one.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield temporary
        if synced:
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


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


def read_bytes(path: str | Path, expected: str = "") -> bytes:
    """The content of a file; UserError if it cannot be had. expected: what it should have been, such as `a picture`."""
    try:
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
        return json.loads(gzip.decompress(data) if Path(path).suffix == ".gz" else data)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read, damaged or cut short ({error})") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON, or cut short ({error})") from None
