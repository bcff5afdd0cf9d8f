"""Errors that end a command in one line instead of a traceback."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import TypeVar

Result = TypeVar("Result")


class UserError(ValueError):
    """Input that cannot be used. The message names the file or key, what was found and what was expected.

    It is one line, whatever the input holds.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.splitlines()))


class DamagedFileError(UserError):
    """A file that exists and can be read, but does not hold what it should."""


class Interrupted(Exception):
    """Training was asked to end (SIGTERM, Ctrl-C); its checkpoint has been written."""


@contextmanager
def reading(source: str | Path, kind: str) -> Iterator[None]:
    """Whatever is raised while content is read becomes one line that begins with `source`.

    kind: what it should be. A UserError if the system refuses to read it, else a DamagedFileError: damage
    raises whatever it leads to.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        refused = isinstance(error, MemoryError) or getattr(error, "errno", None)
        text = getattr(error, "strerror", None) or str(error)
        if isinstance(error, KeyError):
            text = f"missing: {text}"
        reason = " ".join(text.split())[:300] or type(error).__name__
        line = f"{source}: cannot be read as {kind} ({reason})"
        raise (UserError if refused else DamagedFileError)(line) from error


@contextmanager
def installed(use: str) -> Iterator[None]:
    """Around an import: a package that is missing is a UserError. use: what it is expected for, or to do."""
    try:
        yield
    except ModuleNotFoundError as error:
        if not error.name:
            raise
        raise UserError(f"{error.name.partition('.')[0]}: not installed, expected it {use}") from None


def within(timeout: float, source: str, action: Callable[[], Result]) -> Result:
    """The result of an action that waits for something else; UserError if that takes too long.

    timeout: seconds. The action then goes on by itself, in a thread that no exit waits for: not every library
    can be told to stop, and nothing else bounds a name server or a server that sends a byte now and then.
    """
    future = Future[Result]()

    def run() -> None:
        try:
            future.set_result(action())
        except BaseException as error:
            future.set_exception(error)

    Thread(target=run, daemon=True).start()
    try:
        return future.result(timeout)
    except TimeoutError:
        raise UserError(f"{source}: no answer within {timeout:g} s") from None
