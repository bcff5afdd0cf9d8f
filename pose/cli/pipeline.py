"""The commands of the pipeline, stage by stage: `pose train`, `pose evaluate`, ..."""

from __future__ import annotations

import sys
from pathlib import Path

from pose.cli.command import Commands, add_command
from pose.io.errors import UserError


def add(commands: Commands) -> None:
    """Add these commands to the parser."""
    where = "Reads params.yaml in this folder. DVC runs the same when an input has changed."
    arg = add_command(commands, "synthesize", _synthesize, "draw the embedded data", where)
    arg("folder", nargs="?", default="data/synthetic", metavar="FOLDER", help="default: %(default)s")
    arg = add_command(commands, "prepare", _prepare, "make the prepared sets that training reads", where)
    arg("set", nargs="?", metavar="SET", help="only this one: lsp_mpii, coco, or one of datasets")
    link = "A link for each file; what `make real-data` runs."
    arg = add_command(commands, "link-data", _link_data, "link real data sets into data/real", link)
    arg("folder", type=Path, metavar="FOLDER", help="with LSP, LSPET, mpii or coco in it")
    add_command(commands, "build", _build, "build the operator for this machine", where)
    arg = add_command(commands, "train", _train, "train a task", where)
    arg("task", metavar="TASK", help="hgpose, advpose, ...")
    arg = add_command(commands, "evaluate", _evaluate, "evaluate a task on what training never saw", where)
    arg("task", metavar="TASK", help="hgpose, advpose, ...")
    add_command(commands, "report", _report, "write report/index.html from what the others left", where)


def _synthesize(folder: str) -> None:
    from pose.data.synthetic import synthesize
    from pose.params import load_params

    params = load_params()
    synthesize(params.synthetic, seed=params.seed, root=folder)


def _prepare(set: str | None) -> bool:
    from pose.data.prepare.coco import prepare_coco
    from pose.data.prepare.dataset import prepare_dataset
    from pose.data.prepare.lsp_mpii import prepare_lsp_mpii
    from pose.io.paths import PREPARED, prepared_folder
    from pose.metrics.statistics import check_split
    from pose.metrics.truth import check_truth
    from pose.params import load_params

    params = load_params()
    prepare, seed, known = params.prepare, params.seed, [*PREPARED, *params.datasets]
    if set and set not in known:
        raise UserError(f"SET: found {set!r}, expected one of {', '.join(known)}")

    def prepare_one(name: str) -> object:
        if name == "lsp_mpii":
            return prepare_lsp_mpii(params.data.root, PREPARED[name], params=prepare, seed=seed)
        if name == "coco":
            coco, root = params.prepare.coco, params.data.root
            return prepare_coco(root, PREPARED[name], params=coco, seed=seed, check=check_truth)
        spec, folder = params.dataset(name), prepared_folder(name)
        return prepare_dataset(name, spec, folder, params=prepare, seed=seed, check=check_split)

    if set:
        print(prepare_one(set))
        return True
    all_done = True
    for name in known:
        try:
            print(prepare_one(name), flush=True)
        except UserError as error:  # of a set that is not there; the others may be
            print(f"error: {name}: {error}", file=sys.stderr)
            all_done = False
    return all_done


def _link_data(folder: Path) -> None:
    from pose.data.link import link_data

    print(f"data/real: {', '.join(link_data(folder))}")
    print("train on them: pose preset real && dvc repro, or dvc exp run -S data.root=data/real")


def _build() -> None:
    from pose.ops.build import build

    print(*build(Path("build")).values(), sep="\n")


def _train(task: str) -> None:
    from pose.training.launch import train_task

    train_task(task)


def _evaluate(task: str) -> None:
    from pose.tracking.evaluation import evaluate_task

    evaluate_task(task)


def _report() -> None:
    from pose.report import report

    report()
