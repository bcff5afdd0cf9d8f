"""Reading MATLAB files: UserError in place of the reader's dozen kinds of exception."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pose.errors import UserError


def read_mat(path: str | Path) -> dict[str, Any]:
    """The variables of a MATLAB file; UserError if it is missing, cut short, or no MATLAB file of version 7 or older."""
    import scipy.io  # here, since reading the prepared file must not need it

    try:
        variables: dict[str, Any] = scipy.io.loadmat(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except NotImplementedError:
        raise UserError(f"{path}: found a MATLAB 7.3 file, expected version 7 or older (save it with '-v7')") from None
    except Exception as error:  # a damaged file raises what its damage leads to: ValueError, TypeError, zlib.error, ...
        raise UserError(f"{path}: cannot be read as a MATLAB file, damaged or cut short ({' '.join(str(error).split())})") from None
    return variables


def variable_names(variables: dict[str, Any]) -> str:
    """What a file holds, for a message."""
    return ", ".join(name for name in variables if not name.startswith("__")) or "nothing"
