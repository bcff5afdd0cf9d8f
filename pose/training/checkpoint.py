"""Checkpoints of training runs: written atomically, the last two kept, never resumed by another run.

Every run of a task has a folder of its own, `checkpoints/TASK/RUN`, named by its fingerprint, so that another
run leaves the checkpoints of one that was interrupted alone. In it `latest.pt` and `previous.pt`: a
checkpoint is written under another name, synced and renamed, so that a process that is killed at any moment
leaves the old one or the new one; if a disk damages the latest, the previous one is there.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from pose.io.errors import DamagedFileError, UserError
from pose.io.files import write_text, writing
from pose.io.torch_file import load_torch, save_torch
from pose.training.code_version import code_version

log = logging.getLogger(__name__)

FORMAT = "pose-checkpoint-5"
KIND = "a checkpoint (checkpoints/TASK/RUN/latest.pt)"
OPTIONAL = ("adversary", "average", "best")  # entries that may be None
FINISHED = "finished"  # an empty file in the folder of a run that has written its weights


@dataclass
class Checkpoint:
    """All that the rest of a run depends on.

    fingerprint, code, environment: by what it was made. net, optimizer: state dicts. adversary, average: None
    without one. best: tensors of the best weights so far, None if those are `average`, or without one `net`.
    state: a `TrainerState` as plain values.
    """

    fingerprint: dict[str, Any]
    code: dict[str, str]
    environment: dict[str, Any]
    net: dict[str, Any]
    optimizer: dict[str, Any]
    adversary: dict[str, Any] | None
    average: dict[str, Any] | None
    best: dict[str, Any] | None
    state: dict[str, Any]


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint; DamagedFileError if it is damaged or none, UserError if it is unreadable."""
    content = load_torch(path, KIND)
    found = content.get("format") if isinstance(content, dict) else type(content).__name__
    if found != FORMAT:
        raise DamagedFileError(f"{path}: found {found!r}, expected {KIND} ({FORMAT})")
    values: dict[str, Any] = {}
    for field in fields(Checkpoint):
        value = content.get(field.name)
        if not isinstance(value, dict) and not (value is None and field.name in OPTIONAL):
            found = type(value).__name__
            raise DamagedFileError(f"{path}: entry {field.name!r}: found a {found}, expected a dict")
        values[field.name] = value
    return Checkpoint(**values)


@dataclass(frozen=True)
class CheckpointManager:
    """The checkpoints of the run with this fingerprint.

    task_folder: of all runs of the task; the caller holds its lock.
    """

    task_folder: Path
    problem: str
    fingerprint: Mapping[str, Any]

    @property
    def folder(self) -> Path:
        """The run's own folder, which other parameters, data or code never write to."""
        shape = json.dumps(self._shape, sort_keys=True)
        return self.task_folder / hashlib.sha256(shape.encode()).hexdigest()[:12]

    @property
    def _shape(self) -> dict[str, Any]:
        """By what the run is known."""
        return _shape_of(self.fingerprint, code_version(self.problem))

    @property
    def latest(self) -> Path:
        """The one written last."""
        return self.folder / "latest.pt"

    @property
    def previous(self) -> Path:
        """The one written before it."""
        return self.folder / "previous.pt"

    def save(self, **content: Any) -> None:
        """Write a checkpoint; the latest becomes the previous one. UserError if it cannot be written."""
        code = code_version(self.problem)
        checkpoint = Checkpoint(fingerprint=dict(self.fingerprint), code=code, **content)
        save_torch(self.latest, {"format": FORMAT, **vars(checkpoint)}, backup=self.previous)

    def load(self) -> tuple[Path, Checkpoint] | None:
        """The latest undamaged checkpoint of this run, and its file; None, with a log line, if there is none.

        If the latest is damaged and the previous one is not, it is removed, lest it replace the good one at
        the next save. UserError for a file that cannot be read now but may be good.
        """
        damaged = False
        for path in (self.latest, self.previous):
            if not path.exists():
                continue
            try:
                checkpoint = load_checkpoint(path)
            except DamagedFileError as error:
                damaged = True
                log.warning("skipping a checkpoint: %s", error)
                continue
            if path == self.previous and damaged:
                self.latest.unlink()
            return path, checkpoint
        if damaged:
            log.info("starting from scratch: no undamaged checkpoint is left")
        else:
            self._log_other_runs()
        return None

    @property
    def is_finished(self) -> bool:
        """Whether the run has written its weights."""
        return (self.folder / FINISHED).exists()

    def mark_finished(self) -> None:
        """The run has written its weights: remove the checkpoints of the others that have."""
        write_text(self.folder / FINISHED, "")
        for path in self.task_folder.glob(f"*/{FINISHED}"):
            if path.parent != self.folder:
                shutil.rmtree(path.parent, ignore_errors=True)

    def mark_unfinished(self) -> None:
        """The run is resumed, or begins: its checkpoints are kept until it has finished."""
        mark = self.folder / FINISHED
        with writing(mark):
            mark.unlink(missing_ok=True)

    def _log_other_runs(self) -> None:
        """Name runs that were interrupted, and in what the last of them differs from this one."""
        files = self.task_folder.glob("*/latest.pt")
        others = [path for path in files if not (path.parent / FINISHED).exists()]
        if not others:
            return
        last = max(others, key=lambda path: path.stat().st_mtime)
        kept = f"{last} is of another run"
        with suppress(UserError):
            found = load_checkpoint(last)
            kept += f": {_difference(_shape_of(found.fingerprint, found.code), self._shape)}"
        if len(others) > 1:
            kept += f"; {len(others) - 1} more interrupted runs are in {self.task_folder}"
        log.info("starting from scratch: %s", kept)


def _shape_of(fingerprint: Mapping[str, Any], code: Mapping[str, str]) -> dict[str, Any]:
    return {**fingerprint, **{f"code of {part}": version for part, version in code.items()}}


def _difference(found: Mapping[str, Any], expected: Mapping[str, Any]) -> str:
    """Which keys differ, the first with its values; empty if none does."""
    keys = sorted(found.keys() | expected.keys())
    differing = [key for key in keys if found.get(key) != expected.get(key)]
    if not differing:
        return ""
    first, *rest = differing
    values = f"{first} was {found.get(first)!r}, is {expected.get(first)!r}"
    return f"{values}; and {', '.join(rest)}" if rest else values
