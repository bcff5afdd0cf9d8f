"""The resume state of a run: whole, the last two of them, and never one of another run.

`checkpoints/{task}/state.pt` and, beside it, the one before. A state is written under another name, synced and renamed, so that a process
that is killed at any moment leaves the old one or the new one; a disk that damages the newest leaves the one before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pose import ops
from pose.checkpoint import STATE_FORMAT, load_state, save_atomically
from pose.errors import Damaged
from pose.params import Params, flatten
from pose.sources import code_version

# What may differ between a run and its continuation: the rest shapes the weights or the history.
FREE_TO_CHANGE = {"tasks", "evaluate", "report", "synthetic", "prepare", "data"}
PROBLEMS = {"single", "multi"}  # a task has one of them
FREE_IN_TRAIN = {"workers", "checkpoint_every", "checkpoint_minutes", "processes"}


def fingerprint(params: Params, name: str, data_hash: str) -> dict[str, Any]:
    """Every parameter that shapes a run, by dotted key, and `data`, the hash of what it is trained on.

    `epochs` may be raised, so it is not part of it. Nor is the number of processes, since machines come and go, see `environment`.
    """
    problem = params.task(name).problem
    shape = params.model_dump(exclude=FREE_TO_CHANGE | PROBLEMS) | {problem: params.problem(problem).model_dump()}
    shape["train"] = params.train.model_dump(exclude=FREE_IN_TRAIN)
    shape["task"] = params.task(name).model_dump(exclude={"epochs"})
    # The figures by which weights and thresholds are chosen depend on it in their last bits.
    return flatten(shape) | {"evaluate.batch": params.evaluate.batch, "data": data_hash}


def environment(device: torch.device, processes: int, *, tags: bool) -> dict[str, Any]:
    """What a run may be continued with another of, though the last bits may then differ. tags: whether the tag loss is computed."""
    chip = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type} {torch.backends.cpu.get_cpu_capability()}"
    found = {"torch": str(torch.__version__), "device": chip, "processes": processes}
    return found | ({"operator": "built" if device.type in ops.load() else "plain"} if tags else {})


def joined_environment(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """That of a run which was begun in one environment and goes on in another, and a line for each difference."""
    joined, changes = dict(now), []
    for key, value in now.items():
        was = earlier.get(key)
        last = str(was).rpartition(" then ")[2]
        joined[key] = was if last == str(value) else f"{was} then {value}"
        if last != str(value):
            changes.append(f"{key} was {last}, is {value}")
    return joined, changes


@dataclass(frozen=True)
class States:
    """The states in a task's checkpoint folder; whoever writes them holds the folder's lock."""

    folder: Path
    problem: str = "single"

    @property
    def newest(self) -> Path:
        """The last one written."""
        return self.folder / "state.pt"

    @property
    def before(self) -> Path:
        """The one written before it, for when it is damaged."""
        return self.folder / "state.before.pt"

    def write(self, shape: Mapping[str, Any], content: Mapping[str, Any]) -> None:
        """Write a state of the run that `shape` describes; the newest becomes the one before. UserError if it cannot be written."""
        state = {"format": STATE_FORMAT, "fingerprint": dict(shape), "code": code_version(self.problem), **content}
        save_atomically(self.newest, state, before=self.before)

    def read(self, shape: Mapping[str, Any], say: Callable[[str], None]) -> tuple[Path, dict[str, Any]] | None:
        """The newest sound state of the run that `shape` describes, and its file; None, having said why, if training must start afresh.

        A damaged file is said, and removed once there is a sound one before it: it must not take that one's place. UserError for a file
        that cannot be read now, which may be sound.
        """
        damaged = False
        for path in (self.newest, self.before):
            if not path.exists():
                continue
            try:
                state = load_state(path)
            except Damaged as error:
                damaged = True
                say(f"passed over: {error}")
                continue
            if difference := self._difference(state, shape):
                say(f"starts afresh: {path} is of another run: {difference}")
                return None
            if path == self.before and damaged:
                self.newest.unlink()
            return path, state
        if damaged:
            say("starts afresh: no sound state is left")
        return None

    def _difference(self, state: Mapping[str, Any], shape: Mapping[str, Any]) -> str:
        """How the run of a state differs; empty if it does not. Every key is named, the first with its values."""
        found, wanted = dict(state["fingerprint"]), dict(shape)
        found |= {f"code of {path}": version for path, version in state["code"].items()}
        wanted |= {f"code of {path}": version for path, version in code_version(self.problem).items()}
        differing = [key for key in sorted(found.keys() | wanted.keys()) if found.get(key) != wanted.get(key)]
        if not differing:
            return ""
        first, *rest = differing
        return f"{first} was {found.get(first)!r}, is {wanted.get(first)!r}" + (f"; and {', '.join(rest)}" if rest else "")
