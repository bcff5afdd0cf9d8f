"""Projects, runs, parameters, metrics: `pose init`, `repro`, `preset`, `gate`, `show`, `verify`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from pose.cli.command import Commands, add_command
from pose.io.command import count, key_value


def add(commands: Commands) -> None:
    """Add these commands to the parser."""
    more = "Parameters, stages and presets; `pose repro` there runs them with the installed package."
    arg = add_command(commands, "init", _init, "lay out a project in a new folder", more)
    arg("folder", type=Path, metavar="FOLDER", help="new or empty")

    more = (
        "What `dvc repro` does, but stages that do not depend on each other run at a time, and lines of a"
        " stage begin with its name. Ctrl-C ends them; the same command goes on."
    )
    arg = add_command(commands, "repro", _repro, "run what is out of date, several stages at a time", more)
    arg("targets", nargs="*", default=[], metavar="STAGE", help="and what they depend on (default: all)")
    cores = "stages at a time (default: as many as there are cores for; 1 with a GPU)"
    arg("--jobs", type=count, metavar="N", help=cores)

    more = "Its comments stay; `git diff` shows what changed. Without a name, list the presets."
    arg = add_command(commands, "preset", _preset, "write a preset's values into params.yaml", more)
    arg("name", nargs="?", metavar="NAME", help="demo, paper, ...")
    arg("--params", type=Path, default=Path("params.yaml"), metavar="FILE", help="default: %(default)s")

    more = (
        "By `dvc metrics diff`. The exit status is 1 if one is missing or has dropped by more than allowed."
    )
    arg = add_command(commands, "gate", _gate, "compare the metrics with those of a revision", more)
    arg("--base", required=True, metavar="REVISION", help="branch, tag or commit to compare with")
    tolerance = Path(".github/tolerance.yaml")
    arg("--tolerance", type=Path, default=tolerance, metavar="FILE", help="largest drops (%(default)s)")

    more = "Back to revision, data, code, torch, device and parameters; what is unknown is named. Reads only."
    arg = add_command(commands, "show", _show, "say where metrics or weights come from", more)
    arg("what", metavar="WHAT", help="metrics/TASK.json, weights, or a task")
    arg("--json", action="store_true", help="for machines")

    more = (
        "Trains the same steps of a task plainly, again, with other loader workers, and killed and resumed;"
        " compares all that is left bit by bit. The exit status is 1 if anything differs."
    )
    arg = add_command(commands, "verify", _verify, "check that training gives equal bits here", more)
    arg("task", metavar="TASK", help="hgpose, advpose, ...")
    arg("--steps", type=count, default=8, metavar="N", help="of each training (default: 8)")
    arg("--kills", type=count, default=2, metavar="N", help="of the training that is killed (default: 2)")
    arg("--preset", metavar="NAME", help="parameters of presets/NAME.yaml (default: params.yaml as it is)")
    arg("--batch", type=count, metavar="N", help="a batch of this size")
    change = {"dest": "changes", "metavar": "KEY=VALUE", "help": "change a parameter; repeatable"}
    arg("--set", type=key_value, action="append", default=[], **change)
    arg("--prepared", type=Path, metavar="PATH", help="the prepared set, if it is elsewhere")
    arg("--keep", type=Path, metavar="FOLDER", help="leave what was trained there")


def _init(folder: Path) -> None:
    from pose.experiments.init_project import init_project

    init_project(folder)
    print(f"{folder}: params.yaml, dvc.yaml, presets, stages")
    print(f"run everything: cd {shlex.quote(str(folder))} && pose repro; a small first try: pose preset tiny")
    print("before the first dvc exp run: git add . && git commit -m 'New project'")


def _repro(targets: list[str], jobs: int | None) -> None:
    from pose.experiments.repro import default_jobs, repro
    from pose.params import load_params

    repro(targets, jobs or default_jobs(load_params()))


def _preset(name: str | None, params: Path) -> None:
    from pose.experiments.presets import apply_preset, describe, preset_names

    folder = params.parent / "presets"
    if name is None:
        for preset in preset_names(folder):
            print(f"{preset:10} {describe(preset, folder)}")
        return
    changes = apply_preset(name, params, folder)
    for change in changes:
        print(change)
    print(f"{params}: {len(changes)} values changed" if changes else f"{params}: holds preset {name} already")


def _gate(base: str, tolerance: Path) -> bool:
    from pose.experiments.gate import judge, metrics_diff, read_tolerance

    allowed = read_tolerance(tolerance)
    verdicts = judge(metrics_diff(base, allowed), allowed)
    print(*verdicts, sep="\n")
    return all(verdict.passed for verdict in verdicts)


def _show(what: str, json: bool) -> None:
    from pose.experiments.provenance import as_json, as_text, provenance

    print((as_json if json else as_text)(provenance(what)))


def _verify(changes: list[tuple[str, str]], **settings: Any) -> bool:
    from pose.experiments.verify import verify

    return verify(**settings, changes=dict(changes))
