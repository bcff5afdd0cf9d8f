"""The only loop: steps, history, validation now and then, a checkpoint now and then."""

from __future__ import annotations

import logging
import math
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Protocol

import numpy as np
import torch
from tqdm.auto import tqdm

from pose.data.batch import Batch
from pose.io.errors import Interrupted, UserError
from pose.tasks.base import Terms
from pose.tasks.task import Task
from pose.training.distributed import Ranks

log = logging.getLogger(__name__)

HINT = "a smaller lr or a larger warmup may help"


class Callbacks(Protocol):
    """What the loop asks of the run that it is part of. Every process has its own; all are called alike."""

    ranks: Ranks

    def on_step(self, step: int, terms: dict[str, float]) -> None:
        """The terms of a step, means over the ranks."""

    def on_row(self, row: dict[str, float]) -> None:
        """A new row of the history."""

    def validate(self) -> dict[str, float]:
        """Metrics of the network as it is now; the first decides what is best."""

    def keep_best(self) -> None:
        """The network is the best so far."""

    def save(self) -> None:
        """Write a checkpoint."""

    def sample_names(self, step: int) -> list[str]:
        """The samples of that step, on all ranks, by name."""


@dataclass
class TrainerState:
    """All of a run but its tensors.

    recent: the terms of the steps since the last row of train.csv. train, val: the rows of those files.
    seconds: of training, over all restarts; times: their number at each validation. Equal runs differ in
    these two alone.
    """

    step: int = 0
    best: float = -math.inf
    best_step: int = 0
    recent: list[dict[str, float]] = field(default_factory=list)
    train: list[dict[str, float]] = field(default_factory=list)
    val: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    times: list[dict[str, float]] = field(default_factory=list)


@dataclass(frozen=True)
class TrainerConfig:
    """Lengths and intervals, in steps. checkpoint_seconds: the longest time between checkpoints; 0 is any.

    seed: of what networks draw, dropout for example.
    """

    steps: int
    steps_per_epoch: int
    log_every: int
    validate_every: int
    checkpoint_every: int
    checkpoint_seconds: float = 0.0
    seed: int = 0


def fit(
    task: Task, batches: Iterable[Batch], config: TrainerConfig, state: TrainerState, run: Callbacks
) -> None:
    """Train from `state.step` to `config.steps`, changing `task` and `state` in place.

    batches: from the first step that is still to do. When checkpoints are written does not change the
    history. Raises UserError at the first loss that is not finite; Interrupted, after saving, on SIGTERM or
    Ctrl-C.
    """
    started = saved = time.monotonic()
    seconds_before = state.seconds
    read_every = 1 if task.device.type == "cpu" else config.log_every  # reading a loss makes a GPU wait
    pending: list[tuple[int, Terms]] = []
    task.net.train()
    hidden = None if run.ranks.is_main else True  # None: no progress bar where there is no terminal
    bar = tqdm(
        total=config.steps, initial=state.step, desc=task.name, unit="step", mininterval=2.0, disable=hidden
    )
    with bar, stop_request() as stop_requested:
        for raw in batches:
            # By the step, so that a resumed run draws the same.
            drawn = np.random.SeedSequence([config.seed, state.step, run.ranks.rank])
            torch.manual_seed(int(drawn.generate_state(1, np.uint64)[0]))
            terms = task.step(raw.to(task.device), done=state.step, steps=config.steps)
            state.step += 1
            now = time.monotonic()
            state.seconds = seconds_before + now - started
            pending.append((state.step, terms))
            bar.update()
            last = state.step == config.steps
            late = 0 < config.checkpoint_seconds <= now - saved
            stop, late = run.ranks.any(stop_requested.is_set(), late)
            row_due = last or state.step % config.log_every == 0
            val_due = last or state.step % config.validate_every == 0
            save_due = stop or late or val_due or state.step % config.checkpoint_every == 0
            if save_due or row_due or state.step % read_every == 0:
                _log_steps(task, pending, state, run)
                bar.set_postfix(loss=f"{state.recent[-1]['loss']:.4g}", refresh=False)
            if row_due:
                _append_history_row(task, state, run)
            if save_due:
                _check_weights(task, state, run)
            if val_due:
                task.net.eval()
                metrics = run.validate()
                task.net.train()
                _record_validation(task, metrics, state, config, run)
            if save_due:
                run.save()
                saved = time.monotonic()
            if stop and not last:
                raise Interrupted


def _log_steps(task: Task, pending: list[tuple[int, Terms]], state: TrainerState, run: Callbacks) -> None:
    """Fetch the terms of all pending steps at once: fetching each as it comes would make a GPU wait."""
    values = torch.stack([value.double() for _, terms in pending for value in terms.values()]).cpu()
    # The ranks' mean is of one step at a time: how many are pending depends on when checkpoints are written,
    # and must not move the last bits.
    of_step = values.split([len(terms) for _, terms in pending])
    for (step, terms), mine in zip(pending, of_step, strict=True):
        row = dict(zip(terms, run.ranks.mean(mine).tolist(), strict=True))
        for name, value in row.items():
            if not math.isfinite(value):
                samples = ", ".join(run.sample_names(step))
                raise UserError(f"{task.name}: {name} is {value} at step {step}, of {samples}; {HINT}")
        state.recent.append(row)
        run.on_step(step, row)
    pending.clear()


def _check_weights(task: Task, state: TrainerState, run: Callbacks) -> None:
    """UserError for weights that are not finite though the loss was; no checkpoint may hold them."""
    nets = [task.net, *([task.adversary.net] if task.adversary else [])]
    if not torch.stack([weight.isfinite().all() for net in nets for weight in net.parameters()]).all():
        samples = ", ".join(run.sample_names(state.step))
        raise UserError(f"{task.name}: weights are not finite after step {state.step}, of {samples}; {HINT}")


def _append_history_row(task: Task, state: TrainerState, run: Callbacks) -> None:
    """The means of the recent steps become a row of the history."""
    of_term: dict[str, list[float]] = {}  # an adversary's may begin in the middle
    for row in state.recent:
        for name, value in row.items():
            of_term.setdefault(name, []).append(value)
    means = {name: math.fsum(found) / len(found) for name, found in of_term.items()}
    state.train.append({"step": state.step, "lr": task.optimizer.param_groups[0]["lr"], **means})
    state.recent.clear()
    run.on_row(state.train[-1])


def _record_validation(
    task: Task, metrics: dict[str, float], state: TrainerState, config: TrainerConfig, run: Callbacks
) -> None:
    epoch = round(state.step / config.steps_per_epoch, 3)
    state.val.append({"step": state.step, "epoch": epoch, **metrics})
    state.times.append({"step": state.step, "seconds": round(state.seconds, 1)})
    run.on_row(state.val[-1])
    if not metrics:
        found = "found no val sample with a joint that counts"
        raise UserError(f"train.val_samples: {found}, expected some: raise it")
    decisive = next(iter(metrics.values()))
    if decisive > state.best:
        state.best, state.best_step = decisive, state.step
        run.keep_best()
    if run.ranks.is_main:
        shown = ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())
        log.info("%s step %s: %s", task.name, f"{state.step:,}", shown)


@contextmanager
def stop_request() -> Iterator[threading.Event]:
    """While entered, SIGTERM and SIGINT set the event; a second signal raises KeyboardInterrupt.

    Outside the main thread, where Python handles no signals, the event is never set.
    """
    requested = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield requested
        return

    def request(number: int, frame: FrameType | None) -> None:
        if requested.is_set():
            raise KeyboardInterrupt
        requested.set()

    before = {number: signal.signal(number, request) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield requested
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
