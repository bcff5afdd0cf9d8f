"""MATLAB files of version 5 to 7."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pose.io.errors import UserError, reading
from pose.io.files import check_regular_file


def read_mat(path: str | Path, name: str, expected: str) -> Any:
    """A variable of a MATLAB file; UserError if either is missing or damaged. expected: what it is.

    A structure is a dict, several are a list of dicts; axes of length one are dropped, and what is empty is
    an empty array.
    """
    import scipy.io  # here, since training must not need it

    check_regular_file(path, expected)
    with reading(path, "a MATLAB file"):
        try:
            variables = scipy.io.loadmat(path, simplify_cells=True)
        except NotImplementedError:  # scipy's word for version 7.3, which is HDF5
            found = "found a MATLAB 7.3 file"
            raise UserError(f"{path}: {found}, expected version 7 or older (save it with '-v7')") from None
    if name not in variables:
        names = ", ".join(found for found in variables if not found.startswith("__"))[:200]
        raise UserError(f"{path}: found {names or 'nothing'}, expected {expected}")
    return variables[name]
