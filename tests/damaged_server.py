"""Runs commands in processes forked from one that has imported everything.

Importing torch anew for each of hundreds would take minutes.

    python tests/damaged_server.py      one command a line in, as JSON, and what became of it out

Nothing is computed before the fork: torch's and OpenCV's threads would be missing in the child, which would
wait for them for ever.
"""

from __future__ import annotations

import json
import os
import resource
import runpy
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import mlflow  # noqa: F401
import pycocotools.cocoeval  # noqa: F401
import scipy.io  # noqa: F401
import torch

import pose.cli
import pose.data.prepare.coco
import pose.data.prepare.lsp_mpii
import pose.inference.evaluate
import pose.inference.predict
import pose.models.published
import pose.report
import pose.tracking.mlflow
import pose.training.trainer
from pose.training.code_version import code_version

RAISED = 99  # exit status of a command that ended by an exception other than SystemExit
PAGE = resource.getpagesize()


def child(words: list[str], *, folder: str, out: str, err: str, memory: int) -> int:
    """Run `pose ...` or `stages.X ...` as its own process would, with the streams in files and no more than `memory` bytes beyond ours."""
    os.setsid()  # so that a time-out ends what it started, too
    os.chdir(folder)
    for stream, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    addressed = int(Path("/proc/self/statm").read_text().split()[0]) * PAGE
    resource.setrlimit(resource.RLIMIT_AS, (addressed + memory, addressed + memory))
    sys.argv = words
    try:
        if words[0] == "pose":
            pose.cli.main()
        else:
            runpy.run_module(words[0], run_name="__main__")
        status = 0
    except SystemExit as error:
        status = 0 if error.code is None else error.code if isinstance(error.code, int) else 1
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        status = RAISED
    sys.stdout.flush()
    sys.stderr.flush()
    return status


def run(words: list[str], *, folder: str, out: str, err: str, memory: int, seconds: float) -> dict[str, Any]:
    """What became of it: exit status (of a signal, its number below 0), whether it took too long, seconds, bytes beyond ours."""
    began = time.monotonic()
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * PAGE
    number = os.fork()
    if number == 0:
        status = RAISED
        try:
            status = child(words, folder=folder, out=out, err=err, memory=memory)
        finally:
            os._exit(status)
    late = False
    while True:
        ended, status, used = os.wait4(number, os.WNOHANG)
        if ended:
            break
        if not late and time.monotonic() - began > seconds:
            late = True
            os.killpg(number, signal.SIGKILL)
        time.sleep(0.005)
    return {
        "status": os.waitstatus_to_exitcode(status),
        "late": late,
        "seconds": time.monotonic() - began,
        "peak": used.ru_maxrss * 1024 - resident,
    }


def main() -> None:
    """Serve until the input ends."""
    torch.set_num_threads(1)
    for problem in ("single", "multi"):
        code_version(problem)  # which is remembered
    answers = os.fdopen(os.dup(1), "w")  # a child's own prints go elsewhere
    for line in sys.stdin:
        answers.write(json.dumps(run(**json.loads(line))) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
