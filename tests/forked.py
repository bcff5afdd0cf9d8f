"""A function in a process of its own, with limits, from everything that this one has imported."""

import os
import resource
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable

import cv2
import psutil


def run_forked(run: Callable[[], object], *, seconds: int, memory: int = 0) -> tuple[int, str]:
    """Exit status, minus the signal that ended it, and output of a function in a forked process.

    memory: limit in bytes, on top of what this process has.
    """
    # Ends OpenCV's threads, as 0 does not. A child that did it would wait for ever for threads that it lacks.
    cv2.setNumThreads(1)
    with tempfile.TemporaryFile() as output:
        if process := os.fork():
            _, status = os.waitpid(process, 0)
            output.seek(0)
            return os.waitstatus_to_exitcode(status), output.read().decode()
        status = 70
        try:
            for number in (1, 2):
                os.dup2(output.fileno(), number)
            sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1) for number in (1, 2))
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(seconds)
            if memory:
                limit = psutil.Process().memory_info().vms + memory
                resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
            run()
            status = 0
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            sys.stdout.flush()
            os._exit(status)
