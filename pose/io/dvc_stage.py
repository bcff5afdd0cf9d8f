"""What DVC records of a stage is what the stage read: its inputs must not change while it runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pose.io.errors import UserError
from pose.io.files import file_signature
from pose.io.schema import flatten

Values = dict[str, Any]


@contextmanager
def unchanged_inputs() -> Iterator[None]:
    """Around a stage that DVC runs: UserError at its end if a dependency or a parameter changed meanwhile.

    DVC hashes inputs after a stage, and would record that it ran with what is there by then. Files count by
    their size and time. Nothing is checked where DVC does not run the stage.
    """
    read = _reader()
    before = read()
    yield
    after = read()
    for name in sorted(before.keys() | after.keys()):
        if (was := before.get(name)) != (now := after.get(name)):
            stage = os.environ["DVC_STAGE"]
            found = f"was {was!r}, is {now!r}" if name.startswith("params.yaml: ") else "has changed"
            again = "run it again, with what is to be used"
            raise UserError(f"{name} {found}: edited while {stage} ran, which had read it before; {again}")


def _reader() -> Callable[[], Values]:
    """What reads all inputs of the stage that DVC runs, by name."""
    address = os.environ.get("DVC_STAGE")
    try:
        if not address:
            raise ModuleNotFoundError
        from dvc.dependency import ParamsDependency  # a second, which only a stage of DVC's pays
        from dvc.repo import Repo
    except ModuleNotFoundError:  # DVC is installed elsewhere, with pipx perhaps
        return dict

    with Repo() as repo:
        [stage] = repo.stage.collect(address)
    folders = [Path(one.fs_path) for one in stage.deps if not isinstance(one, ParamsDependency)]
    params = [one for one in stage.deps if isinstance(one, ParamsDependency)]

    def read() -> Values:
        values: Values = {}
        for path in folders:
            values |= {os.path.relpath(name): file_signature(name) for name in _files(path)}
        for one in params:
            values |= {f"{one.def_path}: {key}": value for key, value in flatten(one.read_params()).items()}
        return values

    return read


def _files(path: Path) -> Iterator[str]:
    """A file, or all files of a folder but those that Python writes as it runs."""
    if not path.is_dir():
        yield str(path)
    for folder, folders, names in os.walk(path):
        folders[:] = [name for name in folders if name != "__pycache__"]
        yield from (os.path.join(folder, name) for name in names)
