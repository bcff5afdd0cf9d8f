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


@dataclass
class Progress:
    """What a run knows beside tensors. seconds: of training, over all restarts. history: rows of train.csv and valid.csv."""

    step: int = 0
    seconds: float = 0.0
    best: float = -math.inf
    best_step: int = 0
    train: list[dict[str, float]] = field(default_factory=list)
    valid: list[dict[str, float]] = field(default_factory=list)


@dataclass(frozen=True)
class Plan:
    """How long, and how often what: all in steps."""

    steps: int
    per_epoch: int
    log_every: int
    validate_every: int
    checkpoint_every: int


class Interrupted(Exception):
    """Training was asked to end (SIGTERM, Ctrl-C); its state has been saved."""


def fit(task: Task, batches: Iterable[Any], plan: Plan, progress: Progress, run: Callbacks) -> None:
    """Train from `progress.step` to `plan.steps`, changing `task` and `progress` in place.

    batches: from the first step that is still to do.
    Raises UserError at the first loss that is not a number, Interrupted, after saving, when SIGTERM or Ctrl-C asked for an end.
    """
    started, seconds_before = time.monotonic(), progress.seconds
    pending: list[tuple[int, Terms]] = []
    task.net.train()
    bar = tqdm(total=plan.steps, initial=progress.step, desc=task.name, unit="step", mininterval=2.0, disable=not run.ranks.main)
    with bar, asked_to_end() as asked:
        for raw in batches:
            terms = task.step(raw.to(task.device), done=progress.step, steps=plan.steps)
            progress.step += 1
            progress.seconds = seconds_before + time.monotonic() - started
            pending.append((progress.step, terms))
            bar.update()
            last, stop = progress.step == plan.steps, run.ranks.any(asked.is_set())
            valid_due = last or progress.step % plan.validate_every == 0
            save_due = last or stop or valid_due or progress.step % plan.checkpoint_every == 0
            if save_due or progress.step % plan.log_every == 0:
                _note(task, pending, progress, run)
                bar.set_postfix(loss=f"{progress.train[-1]['loss']:.4g}", refresh=False)
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
            if stop and not last:
                raise Interrupted


def _note(task: Task, pending: list[tuple[int, Terms]], progress: Progress, run: Callbacks) -> None:
    """Fetch the terms of the steps since the last time, all at once: reading each as it comes would make a GPU wait."""
    values = torch.stack([value.double() for _, terms in pending for value in terms.values()])
    value = iter(run.ranks.mean(values.cpu()).tolist())
    of_term: dict[str, list[float]] = {}  # an adversary's begin with its game, perhaps in the middle
    for step, terms in pending:
        row = {name: next(value) for name in terms}
        for name, found in row.items():
            if not math.isfinite(found):
                raise UserError(f"{task.name}: {name} is {found} at step {step}; a smaller lr or a larger warmup may help")
            of_term.setdefault(name, []).append(found)
        run.log(row, step)
    mean = {name: math.fsum(found) / len(found) for name, found in of_term.items()}
    progress.train.append({"step": progress.step, "lr": task.optimizer.param_groups[0]["lr"], **mean})
    pending.clear()


def _judge(figures: dict[str, float], progress: Progress, plan: Plan, run: Callbacks) -> None:
    run.log(figures, progress.step)
    epoch = round(progress.step / plan.per_epoch, 3)
    progress.valid.append({"step": progress.step, "epoch": epoch, "seconds": round(progress.seconds, 1), **figures})
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
