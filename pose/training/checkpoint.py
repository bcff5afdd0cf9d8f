"""Checkpoints of a training run: written atomically, the last two kept, never resumed by another run.

`checkpoints/TASK/latest.pt` and, beside it, `previous.pt`. A checkpoint is written under another name, synced
and renamed, so that a process that is killed at any moment leaves the old one or the new one; if a disk
damages the latest, the previous one is there.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from pose.io.errors import DamagedFileError
from pose.io.schema import flatten
from pose.io.torch_file import load_torch, save_torch
from pose.ops import tag_loss as ops
from pose.params import Params
from pose.training.code_version import code_version

log = logging.getLogger(__name__)

FORMAT = "pose-checkpoint-4"
KIND = "a checkpoint (checkpoints/TASK/latest.pt)"
# Parameters that may differ between a run and its continuation; all others shape the weights or the history.
FREE_SECTIONS = {"tasks", "evaluate", "report", "synthetic", "prepare", "data", "single", "multi"}
FREE_IN_TRAIN = {"workers", "checkpoint_every", "checkpoint_minutes", "processes"}


def fingerprint(params: Params, name: str, data_hash: str) -> dict[str, Any]:
    """Every parameter that shapes a run, by dotted key, and `data`, the hash of what it is trained on.

    `epochs` is no part of it, so that it may be raised, nor is the number of processes, see `environment`.
    """
    problem = params.task(name).problem
    shape = params.model_dump(exclude=FREE_SECTIONS) | {problem: params.problem(problem).model_dump()}
    shape["train"] = params.train.model_dump(exclude=FREE_IN_TRAIN)
    shape["task"] = params.task(name).model_dump(exclude={"epochs"})
    # The last bits of the metrics by which weights and thresholds are chosen depend on evaluate.batch.
    return flatten(shape) | {"evaluate.batch": params.evaluate.batch, "data": data_hash}


def environment(device: torch.device, processes: int, *, tags: bool) -> dict[str, Any]:
    """What may change when a run is resumed; the last bits may then differ. tags: is there a tag loss?"""
    cpu = f"{device.type} {torch.backends.cpu.get_cpu_capability()}"
    chip = torch.cuda.get_device_name(device) if device.type == "cuda" else cpu
    found = {"torch": str(torch.__version__), "device": chip, "processes": processes}
    return found | ({"operator": "built" if device.type in ops.load() else "plain"} if tags else {})


def merge_environments(
    earlier: Mapping[str, Any], now: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """The environment of a run that was resumed in another than before, and a line for each difference."""
    merged, changes = dict(now), []
    for key, value in now.items():
        last = str(earlier.get(key)).rpartition(" then ")[2]
        merged[key] = earlier.get(key) if last == str(value) else f"{earlier.get(key)} then {value}"
        if last != str(value):
            changes.append(f"{key} was {last}, is {value}")
    return merged, changes


@dataclass
class Checkpoint:
    """All that the rest of a run depends on.

    fingerprint, code, environment: by what it was made. net, optimizer: state dicts. adversary: None without
    one. best: tensors of the best weights so far, None if those are `net`. state: a `TrainerState` as plain
    values.
    """

    fingerprint: dict[str, Any]
    code: dict[str, str]
    environment: dict[str, Any]
    net: dict[str, Any]
    optimizer: dict[str, Any]
    adversary: dict[str, Any] | None
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
        if not isinstance(value, dict) and not (value is None and field.name in ("adversary", "best")):
            found = type(value).__name__
            raise DamagedFileError(f"{path}: entry {field.name!r}: found a {found}, expected a dict")
        values[field.name] = value
    return Checkpoint(**values)


@dataclass(frozen=True)
class CheckpointManager:
    """The checkpoints of the run with this fingerprint, in its folder, whose lock its user holds."""

    folder: Path
    problem: str
    fingerprint: Mapping[str, Any]

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
            if difference := self._difference(checkpoint):
                log.info("starting from scratch: %s is of another run: %s", path, difference)
                return None
            if path == self.previous and damaged:
                self.latest.unlink()
            return path, checkpoint
        if damaged:
            log.info("starting from scratch: no undamaged checkpoint is left")
        return None

    def _difference(self, checkpoint: Checkpoint) -> str:
        """Which keys of a checkpoint's run differ, the first with its values; empty if none does."""
        found, expected = dict(checkpoint.fingerprint), dict(self.fingerprint)
        found |= {f"code of {path}": version for path, version in checkpoint.code.items()}
        expected |= {f"code of {path}": version for path, version in code_version(self.problem).items()}
        keys = sorted(found.keys() | expected.keys())
        differing = [key for key in keys if found.get(key) != expected.get(key)]
        if not differing:
            return ""
        first, *rest = differing
        values = f"{first} was {found.get(first)!r}, is {expected.get(first)!r}"
        return f"{values}; and {', '.join(rest)}" if rest else values
