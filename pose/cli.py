"""The command `pose`. What a command needs is imported when it runs: `pose --help` is instant."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pose.io.command import MAX_COORDINATE, Numbers, count, key_value, run_command, scales
from pose.io.errors import UserError

EXAMPLES = """\
examples:
  pose train hgpose                  what `dvc repro train@hgpose` runs; resumes where it was interrupted
  pose predict photo.jpg --weights models/hgpose/last.pt
  pose predict photos/ clip.mp4 --weights models/hgpose-ae/last.pt --out drawn --format csv
  pose predict crowd.jpg --weights models/hgpose/last.pt --box 120,40,200,380
  pose import-weights checkpoint.pth.tar --out models/imported/hgpose.pt
  pose preset paper                  write the published hyper-parameters into params.yaml
  pose show metrics/hgpose.json      where metrics, weights or a task come from
  pose verify hgpose                 do equal runs, and killed ones, give equal bits on this machine?

The whole pipeline is `make repro` or `dvc repro`; experiments are `dvc exp run -S lr=2e-4`.
"""

# Without any arguments these, and `pose` itself, show their help.
NEED_ARGUMENTS = (
    *("train", "evaluate", "link-data", "predict", "gate", "show", "verify"),
    *("import-weights", "export-weights"),
)

Commands = Any  # argparse has no public name for it


def main() -> None:
    """Entry point of the console command."""
    run_command(run, sys.argv[1:])


def run(arguments: Sequence[str]) -> None:
    """Run the command that the arguments name; SystemExit with status 1 where it failed in part."""
    if not arguments:
        parser().print_help()
        return
    if len(arguments) == 1 and arguments[0] in NEED_ARGUMENTS:
        arguments = [*arguments, "--help"]
    options = vars(parser().parse_args(arguments))
    if options.pop("function")(**options) is False:
        sys.exit(1)


def parser() -> argparse.ArgumentParser:
    """The parser of all commands; `function` of what it returns runs the one that was named."""
    root = argparse.ArgumentParser(
        prog="pose",
        description="2D human pose estimation: train, evaluate and use pose networks, reproducibly.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    root.add_argument("--version", action=_Version, nargs=0, default=argparse.SUPPRESS, help="show versions")
    commands = root.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_pipeline(commands)
    _add_predict(commands)
    _add_experiments(commands)
    _add_published(commands)
    return root


def _add(commands: Commands, name: str, function: Callable[..., Any], help: str, more: str) -> Any:
    """Add a command; returns what adds its arguments."""
    description = f"{help[0].upper()}{help[1:]}. {more}"
    command: argparse.ArgumentParser = commands.add_parser(name, help=help, description=description)
    command.set_defaults(function=function)
    return command.add_argument


# --- the pipeline, stage by stage ---


def _add_pipeline(commands: Commands) -> None:
    where = "Reads params.yaml in this folder. DVC runs the same when an input has changed."
    arg = _add(commands, "synthesize", _synthesize, "draw the embedded data", where)
    arg("folder", nargs="?", default="data/synthetic", metavar="FOLDER", help="default: %(default)s")
    arg = _add(commands, "prepare", _prepare, "make the prepared sets that training reads", where)
    arg("set", nargs="?", choices=["lsp_mpii", "coco"], help="only one of them")
    link = "A link for each file; what `make real-data` runs."
    arg = _add(commands, "link-data", _link_data, "link real data sets into data/real", link)
    arg("folder", type=Path, metavar="FOLDER", help="with LSP, LSPET, mpii or coco in it")
    _add(commands, "build", _build, "build the operator for this machine", where)
    arg = _add(commands, "train", _train, "train a task", where)
    arg("task", metavar="TASK", help="hgpose, advpose, ...")
    arg = _add(commands, "evaluate", _evaluate, "evaluate a task on what training never saw", where)
    arg("task", metavar="TASK", help="hgpose, advpose, ...")
    _add(commands, "report", _report, "write report/index.html from what the others left", where)


def _synthesize(folder: str) -> None:
    from pose.data.synthetic import synthesize
    from pose.params import load_params

    params = load_params()
    synthesize(params.synthetic, seed=params.seed, root=folder)


def _prepare(set: str | None) -> None:
    from pose.data.prepare.coco import prepare_coco
    from pose.data.prepare.lsp_mpii import prepare_lsp_mpii
    from pose.io.paths import PREPARED
    from pose.metrics.truth import check_truth
    from pose.params import load_params

    params = load_params()
    if set in (None, "lsp_mpii"):
        print(prepare_lsp_mpii(params.data.root, PREPARED["single"], params=params.prepare, seed=params.seed))
    if set in (None, "coco"):
        root, folder = params.data.root, PREPARED["multi"]
        print(prepare_coco(root, folder, params=params.prepare.coco, seed=params.seed, check=check_truth))


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
    from pose.params import load_params
    from pose.report import write_report

    shown = write_report(load_params())
    print(f"report/index.html: {', '.join(shown)}")


# --- pose predict ---


def _add_predict(commands: Commands) -> None:
    more = (
        "Each image is drawn again as a file of its name in the folder of --out, a video as mp4; joints.json"
        " or joints.csv there holds all joints, in pixels of the source, with their confidence. A"
        " single-person network looks at one person in each image: in the box, or at the centre and scale,"
        " that is given, else in the whole image. A multi-person network (hgpose-ae) finds all people. A file"
        " that cannot be read is named; the others are done, and the exit status is 1."
    )
    arg = _add(commands, "predict", _predict, "find people in images, folders and videos", more)
    arg("sources", nargs="+", type=Path, metavar="SOURCE", help="an image, a video, or a folder")
    arg("--weights", type=Path, required=True, help="models/TASK/last.pt or best.pt")
    arg("--out", type=Path, default=Path("drawn"), help="folder for the results (default: drawn)")
    arg("--format", choices=["json", "csv"], default="json", help="of the joints (default: json)")
    few = "leave out people below it (multi-person weights; default: 0.1)"
    arg("--min-score", type=float, default=0.1, metavar="SCORE", help=few)
    sizes = "sizes at which an image is shown (multi-person weights)"
    arg("--scales", type=scales, default=[1.0], metavar="1[,S...]", help=sizes)
    arg("--device", help="cpu, cuda or cuda:0 ... (default: a GPU where there is one)")
    where = "(single-person weights)"
    arg("--box", type=Numbers(4), metavar="X,Y,WIDTH,HEIGHT", help=f"around the person, pixels {where}")
    objpos = "the person's objpos as MPII annotates it: counted from 1, and for the crop moved down by 15 *"
    arg("--centre", type=Numbers(2), metavar="X,Y", help=f"{objpos} scale pixels; with --scale {where}")
    arg("--scale", type=float, help=f"the person's height over 200 pixels, as MPII annotates it {where}")


def _predict(
    sources: list[Path],
    weights: Path,
    scales: list[float],
    device: str | None,
    min_score: float,
    out: Path,
    format: str,
    **place: Any,
) -> bool:
    box = _box(**place)
    from pose.inference.predict import predict
    from pose.inference.predictor import Predictor

    predictor = Predictor.load(weights, device, scales=scales)
    least = min_score if predictor.problem == "multi" else 0.0
    done, problems = predict(sources, predictor=predictor, out=out, box=box, min_score=least, format=format)
    if done:
        count = f"{len(done)} of {len(done) + len(problems)} sources"
        print(f"{out / f'joints.{format}'}: {count}; their drawn copies are beside it")
    return not problems


def _box(
    box: tuple[float, ...] | None, centre: tuple[float, ...] | None, scale: float | None
) -> tuple[float, float, float, float] | None:
    if (centre is None) != (scale is None):
        raise UserError("--centre and --scale: found one of them, expected both or neither")
    if centre is None or scale is None:
        if box and min(box[2:]) <= 0:
            raise UserError(
                f"--box: found {box[2]:g} x {box[3]:g} pixels, expected a width and a height above 0"
            )
        return (box[0], box[1], box[2], box[3]) if box else None
    if box:
        raise UserError("--box: found with --centre and --scale, expected one or the other")
    if not 0 < 200 * scale <= MAX_COORDINATE:
        raise UserError(
            f"--scale: found {scale:g}, expected a number above 0 and at most {MAX_COORDINATE / 200:g}"
        )
    from pose.data.formats.person_table import FEET_SHIFT, PERSON_HEIGHT

    # The crop of evaluation. MPII counts pixels from 1; here their centres are at whole numbers from 0.
    x, y, side = centre[0] - 1, centre[1] - 1 + FEET_SHIFT * scale, PERSON_HEIGHT * scale
    return x - (side - 1) / 2, y - (side - 1) / 2, side, side


# --- parameters, metrics, reproducibility ---


def _add_experiments(commands: Commands) -> None:
    more = "Its comments stay; `git diff` shows what changed. Without a name, list the presets."
    arg = _add(commands, "preset", _preset, "write a preset's values into params.yaml", more)
    arg("name", nargs="?", metavar="NAME", help="demo, paper, ...")
    arg("--params", type=Path, default=Path("params.yaml"), metavar="FILE", help="default: %(default)s")

    more = (
        "By `dvc metrics diff`. The exit status is 1 if one is missing or has dropped by more than allowed."
    )
    arg = _add(commands, "gate", _gate, "compare the metrics with those of a revision", more)
    arg("--base", required=True, metavar="REVISION", help="branch, tag or commit to compare with")
    tolerance = Path(".github/tolerance.yaml")
    arg("--tolerance", type=Path, default=tolerance, metavar="FILE", help="largest drops (%(default)s)")

    more = "Back to revision, data, code, torch, device and parameters; what is unknown is named. Reads only."
    arg = _add(commands, "show", _show, "say where metrics or weights come from", more)
    arg("what", metavar="WHAT", help="metrics/TASK.json, weights, or a task")
    arg("--json", action="store_true", help="for machines")

    more = (
        "Trains the same steps of a task plainly, again, with other loader workers, and killed and resumed;"
        " compares all that is left bit by bit. The exit status is 1 if anything differs."
    )
    arg = _add(commands, "verify", _verify, "check that training gives equal bits here", more)
    arg("task", metavar="TASK", help="hgpose, advpose, ...")
    arg("--steps", type=count, default=8, metavar="N", help="of each training (default: 8)")
    arg("--kills", type=count, default=2, metavar="N", help="of the training that is killed (default: 2)")
    arg("--preset", metavar="NAME", help="parameters of presets/NAME.yaml (default: params.yaml as it is)")
    arg("--batch", type=count, metavar="N", help="a batch of this size")
    change = {"dest": "changes", "metavar": "KEY=VALUE", "help": "change a parameter; repeatable"}
    arg("--set", type=key_value, action="append", default=[], **change)
    arg("--prepared", type=Path, metavar="PATH", help="the prepared set, if it is elsewhere")
    arg("--keep", type=Path, metavar="FOLDER", help="leave what was trained there")


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
    verdicts = judge(metrics_diff(base), allowed)
    print(*verdicts, sep="\n")
    return all(verdict.passed for verdict in verdicts)


def _show(what: str, json: bool) -> None:
    from pose.experiments.provenance import as_json, as_text, provenance

    print((as_json if json else as_text)(provenance(what)))


def _verify(changes: list[tuple[str, str]], **settings: Any) -> bool:
    from pose.experiments.verify import verify

    return verify(**settings, changes=dict(changes))


# --- published weights ---


def _add_published(commands: Commands) -> None:
    more = "Which network it is, its tensors tell. Only tensors and plain values are loaded: no code can run."
    arg = _add(commands, "import-weights", _import, "read published weights of other projects", more)
    arg("source", type=Path, metavar="CHECKPOINT", help="a file as the other project saved it")
    arg("--out", type=Path, required=True, help="for example models/imported/hgpose.pt")
    arg("--kind", help="insist on this network, or choose it: bearpaw_hg, umich_pose_ae, ...")
    arg("--task", help="name to keep with the weights (default: hgpose or hgpose-ae)")

    more = "A published code of the same architecture reads them."
    arg = _add(commands, "export-weights", _export, "write weights under another project's names", more)
    arg("weights", type=Path, metavar="WEIGHTS", help="models/TASK/last.pt or best.pt")
    kinds = "bearpaw_hg, roytseng_hgpose, roytseng_hgpose_ae or umich_pose_ae"
    arg("--kind", required=True, help=f"whose names: {kinds}")
    arg("--out", type=Path, required=True, help="the file to write")


def _import(source: Path, out: Path, kind: str | None, task: str | None) -> None:
    from pose.models.published import import_file

    published = import_file(source, out, task=task, kind=kind)
    size = ", ".join(f"{name} {value}" for name, value in published.settings.items())
    print(f"{out}: {published.format.name} ({size})")


def _export(weights: Path, kind: str, out: Path) -> None:
    from pose.models.published import export_file

    export_file(weights, out, kind)
    print(f"{out}: named as in {kind}")


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import PackageNotFoundError, version

        for name in ("pose", "torch", "opencv-python-headless", "mlflow", "dvc"):
            try:
                print(f"{name} {version(name)}")
            except PackageNotFoundError:
                print(f"{name} not installed")
        parser.exit()


if __name__ == "__main__":
    main()
