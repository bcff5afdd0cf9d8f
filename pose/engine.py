"""The only loop: steps, history, validation now and then, a resume state now and then."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, Protocol

import torch
from tqdm import tqdm

from pose.distributed import Ranks
from pose.errors import UserError
from pose.problem import Terms
from pose.task import Task


class Callbacks(Protocol):
    """What the loop asks of the run that it is part of. With several processes each has its own, and all are called alike."""

    ranks: Ranks

    def log(self, values: dict[str, float], step: int) -> None:
        """Values by name at one step."""

    def validate(self) -> dict[str, float]:
        """Figures of the network as it stands; the first decides what is best."""

    def improved(self) -> None:
        """It is the best so far."""

    def save(self) -> None:
        """Write the resume state."""

    def samples(self, step: int) -> list[str]:
        """What that step looked at, on all ranks, by name."""


@dataclass
class Progress:
    """What a run knows beside tensors.

    recent: the terms of the steps since the last row of train.csv. train, valid: the rows of those files. seconds: of training, over all
    restarts; clock: how many there were at each validation. Those two alone are not the same in equal runs.
    """

    step: int = 0
    best: float = -math.inf
    best_step: int = 0
    recent: list[dict[str, float]] = field(default_factory=list)
    train: list[dict[str, float]] = field(default_factory=list)
    valid: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    clock: list[dict[str, float]] = field(default_factory=list)


@dataclass(frozen=True)
class Plan:
    """How long, and how often what: in steps, but for checkpoint_seconds, after which a state is written too (0: never)."""

    steps: int
    per_epoch: int
    log_every: int
    validate_every: int
    checkpoint_every: int
    checkpoint_seconds: float = 0.0


class Interrupted(Exception):
    """Training was asked to end (SIGTERM, Ctrl-C); its state has been saved."""


def fit(task: Task, batches: Iterable[Any], plan: Plan, progress: Progress, run: Callbacks) -> None:
    """Train from `progress.step` to `plan.steps`, changing `task` and `progress` in place.

    batches: from the first step that is still to do. When a state is written changes nothing of what is in the history.
    Raises UserError at the first loss that is not a number, Interrupted, after saving, when SIGTERM or Ctrl-C asked for an end.
    """
    started = saved = time.monotonic()
    seconds_before = progress.seconds
    every = 1 if task.device.type == "cpu" else plan.log_every  # to read a loss makes a GPU wait
    pending: list[tuple[int, Terms]] = []
    task.net.train()
    bar = tqdm(total=plan.steps, initial=progress.step, desc=task.name, unit="step", mininterval=2.0, disable=not run.ranks.main)
    with bar, asked_to_end() as asked:
        for raw in batches:
            terms = task.step(raw.to(task.device), done=progress.step, steps=plan.steps)
            progress.step += 1
            now = time.monotonic()
            progress.seconds = seconds_before + now - started
            pending.append((progress.step, terms))
            bar.update()
            last = progress.step == plan.steps
            stop, late = run.ranks.any(asked.is_set(), 0 < plan.checkpoint_seconds <= now - saved)
            row_due = last or progress.step % plan.log_every == 0
            valid_due = last or progress.step % plan.validate_every == 0
            save_due = stop or late or valid_due or progress.step % plan.checkpoint_every == 0
            if save_due or row_due or progress.step % every == 0:
                _note(task, pending, progress, run)
                bar.set_postfix(loss=f"{progress.recent[-1]['loss']:.4g}", refresh=False)
            if row_due:
                _condense(task, progress)
            if save_due:
                _check_weights(task, progress, run)
            if valid_due:
                task.net.eval()
                figures = run.validate()
                task.net.train()
                _judge(figures, progress, plan, run)
                if run.ranks.main:
                    shown = ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
                    bar.write(f"{task.name} step {progress.step:,}: {shown}")
            if save_due:
                run.save()
                saved = time.monotonic()
            if stop and not last:
                raise Interrupted


def _note(task: Task, pending: list[tuple[int, Terms]], progress: Progress, run: Callbacks) -> None:
    """Fetch the terms of the steps since the last time, all at once: reading each as it comes would make a GPU wait."""
    values = torch.stack([value.double() for _, terms in pending for value in terms.values()]).cpu()
    # Each step's for itself, so that how many wait, which a state written in between changes, moves no bit of a mean.
    each = values.split([len(terms) for _, terms in pending])
    for (step, terms), mine in zip(pending, each, strict=True):
        row = dict(zip(terms, run.ranks.mean(mine).tolist(), strict=True))
        for name, found in row.items():
            if not math.isfinite(found):
                hint = "a smaller lr or a larger warmup may help"
                raise UserError(f"{task.name}: {name} is {found} at step {step}, of {', '.join(run.samples(step))}; {hint}")
        progress.recent.append(row)
        run.log(row, step)
    pending.clear()


def _check_weights(task: Task, progress: Progress, run: Callbacks) -> None:
    """UserError, the same on all ranks, for weights that are not finite: the loss that they came from was, and no state may hold them."""
    nets = [task.net, *([task.adversary.net] if task.adversary else [])]
    if not torch.stack([weight.isfinite().all() for net in nets for weight in net.parameters()]).all():
        hint = "a smaller lr or a larger warmup may help"
        raise UserError(
            f"{task.name}: weights are not finite after step {progress.step}, of {', '.join(run.samples(progress.step))}; {hint}"
        )


def _condense(task: Task, progress: Progress) -> None:
    """The recent steps become one row of the history: their means."""
    of_term: dict[str, list[float]] = {}  # an adversary's begin with its game, perhaps in the middle
    for row in progress.recent:
        for name, value in row.items():
            of_term.setdefault(name, []).append(value)
    mean = {name: math.fsum(found) / len(found) for name, found in of_term.items()}
    progress.train.append({"step": progress.step, "lr": task.optimizer.param_groups[0]["lr"], **mean})
    progress.recent.clear()


def _judge(figures: dict[str, float], progress: Progress, plan: Plan, run: Callbacks) -> None:
    run.log(figures, progress.step)
    epoch = round(progress.step / plan.per_epoch, 3)
    progress.valid.append({"step": progress.step, "epoch": epoch, **figures})
    progress.clock.append({"step": progress.step, "seconds": round(progress.seconds, 1)})
    if not figures:
        raise UserError("train.validation_people: found nobody among those looked at who has a joint that counts, expected some: raise it")
    decisive = next(iter(figures.values()))
    if decisive > progress.best:
        progress.best, progress.best_step = decisive, progress.step
        run.improved()


@contextmanager
def asked_to_end() -> Iterator[threading.Event]:
    """While entered, SIGTERM and SIGINT set the event instead of ending the process; a second one ends it at once."""
    asked = threading.Event()

    def ask(number: int, frame: FrameType | None) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
