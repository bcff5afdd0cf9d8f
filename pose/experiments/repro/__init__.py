"""`dvc repro` of several stages at a time: of those that do not depend on each other.

DVC runs one stage after another, but several of its processes may run at a time. A training of a small
network has one thread, so that two of them on two cores take little more than half of the time of one after
the other.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from pose.data.threads import cores
from pose.experiments.repro.broken_lock import remove_broken_lock
from pose.experiments.repro.running import RunningStages
from pose.io.errors import UserError
from pose.params import Params


def repro(targets: Sequence[str], jobs: int) -> None:
    """Bring stages, and all that they depend on, up to date, `jobs` of them at a time; all without targets.

    Lines of a stage begin with its name. After one that fails, those that run are waited for, and no other
    begins. Ctrl-C, SIGTERM and SIGHUP go to those that run, which are waited for; the third Ctrl-C or SIGTERM
    kills them. While another DVC holds the repository's lock, they wait for it, as `dvc --wait-for-lock`.
    UserError for unknown targets, and if a stage failed. If lines cannot be written, all end as by Ctrl-C:
    UserError or BrokenPipeError.
    """
    if line := remove_broken_lock(Path()):
        print(line)
    needs, started = _needs(targets), time.monotonic()
    todo, done, failed = list(needs), set[str](), list[str]()
    running = RunningStages(width=max(map(len, needs), default=0))
    with running.hear_signals():
        while True:
            ready = [stage for stage in todo if needs[stage] <= done]
            for stage in ready[: jobs - len(running)]:
                if not (failed or running.stopped):
                    todo.remove(stage)
                    running.start(stage)
            if not running:
                break
            stage, status = running.next_end()
            if status:
                failed.append(stage)
            else:
                done.add(stage)
    if running.stopped:
        raise running.stopped
    if failed:
        rest = f"; not begun: {', '.join(todo)}" if todo else ""
        raise UserError(f"{', '.join(failed)}: failed, see its lines above{rest}")
    minutes, seconds = divmod(round(time.monotonic() - started), 60)
    print(f"up to date after {minutes} min {seconds} s: {', '.join(sorted(done))}")


def default_jobs(params: Params) -> int:
    """As many stages as there are cores for their processes and threads; one where there is a GPU."""
    import torch

    if torch.cuda.is_available():
        return 1
    processes = 1 if params.train.processes == "auto" else int(params.train.processes)
    return max(1, cores() // (processes * params.train.threads))


def _needs(targets: Sequence[str]) -> Mapping[str, set[str]]:
    """Which stages each stage depends on, by name."""
    from dvc.dvcfile import PROJECT_FILE
    from dvc.exceptions import DvcException
    from dvc.repo import Repo, lock_repo
    from dvc.repo.reproduce import collect_stages, get_active_graph, plan_repro

    try:
        with Repo(_wait_for_lock=True) as repo, lock_repo(repo):  # another DVC may be writing dvc.lock
            graph = get_active_graph(repo.index.graph)
            plan = plan_repro(graph, collect_stages(repo, targets or [PROJECT_FILE]))
            return {stage.addressing: {one.addressing for one in graph.successors(stage)} for stage in plan}
    except DvcException as error:
        raise UserError(f"dvc: {' '.join(str(error).split())}") from None
