"""What DVC records of a stage is what the stage read: its inputs must not change while it runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from pose.io.errors import UserError
from pose.io.files import file_signature
from pose.io.schema import flatten

Values = dict[str, Any]  # of parameters, or sizes and times of files, by name


@contextmanager
def unchanged_inputs() -> Iterator[None]:
    """Around a stage that DVC runs: UserError at its end if a dependency or a parameter changed meanwhile.

    DVC hashes inputs after a stage, and would record that it ran with what is there by then. Files count by
    their size and time. Nothing is checked where DVC does not run the stage.
    """
    read = _reader()
    files, params = read()
    yield
    files_now, params_now = read()
    changes = [f"{name} has changed" for name in _differing(files, files_now)]
    changes += [
        f"{name} was {params.get(name)!r}, is {params_now.get(name)!r}"
        for name in _differing(params, params_now)
    ]
    if changes:
        stage = os.environ["DVC_STAGE"]
        more = f" (and {len(changes) - 1} more)" if len(changes) > 1 else ""
        why = f"edited while {stage} ran, which had read it before; run it again, with what is to be used"
        raise UserError(f"{changes[0]}{more}: {why}")


def require_dependency(path: str | Path, key: str, entry: str) -> None:
    """UserError if DVC runs a stage that does not depend on this file or folder, which `key` names.

    key: of params.yaml. entry: what to write into dvc.yaml. DVC would not run the stage again when the file
    changes.
    """
    address = os.environ.get("DVC_STAGE", "")
    paths, _ = _dependencies(address)
    if paths and not any(Path(os.path.abspath(path)).is_relative_to(one) for one in paths):
        expected = f"expected a dependency of {address}; write `{entry}: {path}` into its entry in dvc.yaml"
        raise UserError(f"{key}: found {path}, {expected}")


def _differing(before: Values, after: Values) -> list[str]:
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))


def _reader() -> Callable[[], tuple[Values, Values]]:
    """What reads all files and all parameters that are inputs of the stage that DVC runs."""
    paths, params = _dependencies(os.environ.get("DVC_STAGE", ""))

    def read() -> tuple[Values, Values]:
        files = {os.path.relpath(name): file_signature(name) for path in paths for name in _files(path)}
        flat = ((one.def_path, flatten(one.read_params())) for one in params)
        return files, {f"{file}: {key}": value for file, values in flat for key, value in values.items()}

    return read


@cache
def _dependencies(address: str) -> tuple[list[Path], list[Any]]:
    """Files and folders, and DVC's objects of parameters, that a stage depends on; none for no stage."""
    try:
        if not address:
            raise ModuleNotFoundError
        from dvc.dependency import ParamsDependency  # a second, which only a stage of DVC's pays
        from dvc.repo import Repo, lock_repo
    except ModuleNotFoundError:  # DVC is installed elsewhere, with pipx perhaps
        return [], []
    # A stage that runs beside this one may have ended: DVC then writes dvc.lock, which is empty for a moment.
    with Repo(_wait_for_lock=True) as repo, lock_repo(repo):
        [stage] = repo.stage.collect(address)
    paths = [Path(one.fs_path) for one in stage.deps if not isinstance(one, ParamsDependency)]
    return paths, [one for one in stage.deps if isinstance(one, ParamsDependency)]


def _files(path: Path) -> Iterator[str]:
    """A file, or all files of a folder but those that Python writes as it runs."""
    if not path.is_dir():
        yield str(path)
    for folder, folders, names in os.walk(path):
        folders[:] = [name for name in folders if name != "__pycache__"]
        yield from (os.path.join(folder, name) for name in names)
