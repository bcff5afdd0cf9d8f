"""Processes of one run notice when another one shows no sign of life.

A process that ends closes its connections, which the others notice at once. One that was stopped (SIGSTOP, a
debugger), or whose machine has lost its network, does not: the others would wait for it in silence.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from contextlib import suppress
from datetime import timedelta

from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

log = logging.getLogger(__name__)

BEAT = 1.0  # seconds
WARN = 10.0  # seconds of silence after which the others say for whom they wait
LEFT = b"left"  # in place of a count: this process has done its part, and the others go on without it


class Heartbeat:
    """A thread that counts in the store of the processes, and ends this one when another stops counting.

    Silence is counted in this thread's own beats, so that processes that were all suspended for a while, with
    their terminal or computer, do not take each other for dead.
    """

    def __init__(self, rank: int, count: int, *, group: str, seconds: float, status: int):
        """group: the name of the processes' group, of which one store sees several, one after another.

        status: with which this process exits after another one was silent for so many seconds.
        """
        self._others = [other for other in range(count) if other != rank]
        self._rank, self._seconds, self._status = rank, seconds, status
        self._silent = dict.fromkeys(self._others, 0.0)  # seconds
        self._counts = dict.fromkeys(self._others, b"")
        self._stopped = threading.Event()
        host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        # A connection of its own: that of the collectives may be busy waiting.
        store = TCPStore(host, port, is_master=False, timeout=timedelta(seconds=seconds))
        self._store = PrefixStore(f"heartbeat {group}", store)
        self._store.set(str(rank), "0")
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()

    def leave(self) -> None:
        """Tell the others that this process is done: the first one still tunes and writes alone."""
        self.stop()
        self._thread.join(BEAT)
        with suppress(RuntimeError):
            self._store.set(str(self._rank), LEFT.decode())

    def _run(self) -> None:
        beats = 0
        while not self._stopped.wait(BEAT):
            beats += 1
            try:
                self._store.set(str(self._rank), str(beats))
                counts = [self._store.get(str(other)) for other in self._others]
            except RuntimeError:  # the store ends with the launcher, or with the first process
                return
            for other, count in zip(self._others, counts, strict=True):
                self._check(other, count)
            self._others = [other for other in self._others if self._counts[other] != LEFT]

    def _check(self, other: int, count: bytes) -> None:
        before, self._counts[other] = self._counts[other], count
        silent = self._silent[other] = 0.0 if count != before else self._silent[other] + BEAT
        first_alive = all(self._silent[lower] > 0 for lower in self._others if lower < self._rank)
        if silent == WARN and first_alive:
            left = f"training ends after {self._seconds:g} s (train.timeout)"
            log.warning("waiting for process %d, silent for %g s (stopped?); %s", other, silent, left)
        if silent >= self._seconds and not self._stopped.is_set():
            if first_alive:
                text = f"process {other} was silent for {silent:g} s (train.timeout)"
                print(f"{text}: ending; the same command resumes", file=sys.stderr, flush=True)
            os._exit(self._status)  # the main thread waits in a collective call
