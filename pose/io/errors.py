"""Errors that end a command in one line instead of a traceback."""

from __future__ import annotations


class UserError(ValueError):
    """Input that cannot be used. The message names the file or key, what was found and what was expected."""


class DamagedFileError(UserError):
    """A file that exists and can be read, but does not hold what it should."""


class Interrupted(Exception):
    """Training was asked to end (SIGTERM, Ctrl-C); its checkpoint has been written."""
