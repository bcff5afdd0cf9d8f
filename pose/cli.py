"""The command `pose`. What a command needs is imported when it is run, so that `pose --help` answers at once."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pose.io.command import run_command
from pose.io.errors import UserError

EXAMPLES = """\
examples:
  pose train hgpose                  what `dvc repro train@hgpose` runs; resumes where it was interrupted
  pose predict photo.jpg --weights models/hgpose/last.pt
  pose predict photos/ clip.mp4 --weights models/hgpose-ae/last.pt --out drawn --format csv
  pose predict crowd.jpg --weights models/hgpose/last.pt --box 120,40,200,380
  pose import-weights checkpoint.pth.tar --out models/imported/hgpose.pt
  pose preset paper                  write the published hyper-parameters into params.yaml
  pose show metrics/hgpose.json      where metrics, weights, a task or an MLflow run come from
  pose verify hgpose                 do equal runs, and killed ones, give equal bits on this machine?

The whole pipeline is `make repro` or `dvc repro`; experiments are `dvc exp run -S lr=2e-4`.
"""

MAX_COORDINATE = 1e6  # pixels; as `pose.io.images.MAX_COORDINATE`, which takes longer to import
MAX_SCALE = 8.0  # as of `evaluate.scales`

Commands = Any  # argparse has no public name for it


def main() -> None:
    """Entry point of the console command."""
    run_command(run, sys.argv[1:])


def run(arguments: Sequence[str]) -> None:
    """Parse the arguments and run the command that they name; SystemExit with status 1 where it failed in part."""
    parser = _parser()
    if not arguments:
        parser.print_help()
        return
    options = vars(parser.parse_args(arguments))
    if options.pop("function")(**options) is False:
        sys.exit(1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pose",
        description="2D human pose estimation: train, evaluate and use pose networks, reproducibly.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    hidden: Any = {"dest": argparse.SUPPRESS, "default": argparse.SUPPRESS}  # no argument of any command
    about = "show the versions of pose and its base"
    parser.add_argument("--version", action=_Version, nargs=0, help=about, **hidden)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_pipeline(commands)
    _add_predict(commands)
    _add_experiments(commands)
    _add_published(commands)
    return parser


def _add(
    commands: Commands, name: str, function: Callable[..., Any], help: str, more: str = ""
) -> argparse.ArgumentParser:
    description = f"{help[0].upper()}{help[1:]}. {more}".strip()
    command: argparse.ArgumentParser = commands.add_parser(name, help=help, description=description)
    command.set_defaults(function=function)
    return command


# --- the pipeline, stage by stage ---


def _add_pipeline(commands: Commands) -> None:
    where = "Reads params.yaml in this folder; what DVC would run too, if its inputs have changed."
    command = _add(commands, "synthesize", _synthesize, "draw the embedded data", where)
    command.add_argument(
        "folder", nargs="?", default="data/synthetic", metavar="FOLDER", help="default: %(default)s"
    )
    command = _add(commands, "prepare", _prepare, "make the prepared sets that training reads", where)
    command.add_argument("set", nargs="?", choices=["lsp_mpii", "coco"], help="only one of them")
    _add(commands, "build", _build, "build the operator for this machine", where)
    for name, function, help in (
        ("train", _train, "train a task"),
        ("evaluate", _evaluate, "evaluate a task's weights on what training never saw"),
    ):
        _add(commands, name, function, help, where).add_argument(
            "task", metavar="TASK", help="hgpose, advpose, ..."
        )
    _add(commands, "report", _report, "write report/index.html from what the other commands left", where)


def _synthesize(folder: str) -> None:
    from pose.data.synthetic.sets import synthesize
    from pose.params import load_params

    params = load_params()
    synthesize(params.synthetic, seed=params.seed, root=folder)


def _prepare(set: str | None) -> None:
    from pose.data.prepare.coco import prepare_coco
    from pose.data.prepare.lsp_mpii import prepare_lsp_mpii
    from pose.io.paths import PREPARED
    from pose.params import load_params

    params = load_params()
    if set in (None, "lsp_mpii"):
        print(prepare_lsp_mpii(params.data.root, PREPARED["single"], params=params.prepare, seed=params.seed))
    if set in (None, "coco"):
        print(prepare_coco(params.data.root, PREPARED["multi"], params=params.prepare.coco, seed=params.seed))


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
    from pose.report import machine_facts, revision, write_report

    shown = write_report(load_params(), revision=revision(), machine=machine_facts())
    print(f"report/index.html: {', '.join(shown)}")


# --- pose predict ---


def _add_predict(commands: Commands) -> None:
    command = _add(
        commands,
        "predict",
        _predict,
        "find people in images, folders and videos",
        "Each image is drawn again as a file of its name in the folder of --out, a video as mp4; joints.json or "
        "joints.csv there holds all joints, in pixels of the source, with their confidence. A single-person network "
        "looks at one person in each image: in the box, or at the centre and scale, that is given, else in the whole "
        "image. A multi-person network (hgpose-ae) finds all people of an image. A file that cannot be read is named; "
        "the others are done, and the exit status is 1.",
    )
    command.add_argument(
        "sources", nargs="+", type=Path, metavar="SOURCE", help="an image, a video, or a folder"
    )
    command.add_argument("--weights", type=Path, required=True, help="models/TASK/last.pt or best.pt")
    command.add_argument(
        "--out", type=Path, default=Path("drawn"), help="folder for the results (default: drawn)"
    )
    command.add_argument(
        "--format", choices=["json", "csv"], default="json", help="of the joints (default: json)"
    )
    command.add_argument("--min-score", type=float, default=0.1, metavar="SCORE", help="leave out people below it,"
                         " of multi-person weights (default: 0.1)")  # fmt: skip
    command.add_argument("--scales", type=_scales, default=[1.0], metavar="1[,S...]",
                         help="sizes at which an image is shown, of multi-person weights")  # fmt: skip
    command.add_argument("--device", help="cpu, cuda or cuda:0 ... (default: a GPU where there is one)")
    place = command.add_argument_group("where the person is (single-person weights)")
    place.add_argument(
        "--box", type=_Numbers(4), metavar="X,Y,WIDTH,HEIGHT", help="box around the person, pixels"
    )
    place.add_argument(
        "--centre", type=_Numbers(2), metavar="X,Y", help="middle of the person, pixels; with --scale"
    )
    place.add_argument(
        "--scale", type=float, help="height of the person over 200 pixels, as MPII annotates it"
    )


def _predict(
    sources: list[Path], weights: Path, out: Path, format: str, min_score: float, scales: list[float],
    device: str | None, **place: Any,
) -> bool:  # fmt: skip
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
    (x, y), side = centre, 200 * scale
    return x - (side - 1) / 2, y - (side - 1) / 2, side, side  # pixel centres are at whole numbers


class _Numbers:
    """Argument type: so many numbers with commas between them."""

    def __init__(self, count: int):
        self.count = count

    def __call__(self, text: str) -> tuple[float, ...]:
        try:
            numbers = tuple(float(part) for part in text.split(","))
        except ValueError:
            numbers = ()
        if len(numbers) != self.count or not all(abs(number) <= MAX_COORDINATE for number in numbers):
            expected = f"{self.count} numbers with commas between them, none beyond {MAX_COORDINATE:g}"
            raise argparse.ArgumentTypeError(f"found {text!r}, expected {expected}")
        return numbers


def _scales(text: str) -> list[float]:
    try:
        scales = [float(part) for part in text.split(",")]
    except ValueError:
        scales = []
    if 1.0 not in scales or not all(0 < scale <= MAX_SCALE for scale in scales):
        expected = f"numbers above 0 and at most {MAX_SCALE:g} with commas between them, 1 among them"
        raise argparse.ArgumentTypeError(f"found {text!r}, expected {expected}")
    return scales


# --- parameters, metrics, reproducibility ---


def _add_experiments(commands: Commands) -> None:
    command = _add(
        commands, "preset", _preset, "write a preset's values into params.yaml",
        "Its comments stay; `git diff` and `dvc params diff` show what changed. Without a name, list the presets.",
    )  # fmt: skip
    command.add_argument("name", nargs="?", metavar="NAME", help="demo, paper, ...")
    command.add_argument(
        "--params", type=Path, default=Path("params.yaml"), metavar="FILE", help="default: params.yaml"
    )
    command = _add(
        commands, "gate", _gate, "fail if the metrics have dropped against a revision",
        "Compares the metrics in the workspace with those of a revision (`dvc metrics diff`). The exit status is 1 if "
        "one of them is missing or has dropped by more than the tolerance file allows.",
    )  # fmt: skip
    command.add_argument(
        "--base", required=True, metavar="REVISION", help="branch, tag or commit to compare with"
    )
    tolerance = Path(".github/tolerance.yaml")
    command.add_argument(
        "--tolerance", type=Path, default=tolerance, metavar="FILE", help="default: %(default)s"
    )
    command = _add(
        commands, "show", _show, "say where metrics, weights or a run come from",
        "Back to revision, hashes of data and code, torch, device and parameters. What cannot be found out is said in "
        "its line. Nothing is written, to the MLflow store neither.",
    )  # fmt: skip
    what = (
        "metrics/TASK.json, models/TASK/last.pt, a task, or an MLflow run: its name, id or 6 characters of it"
    )
    command.add_argument("what", metavar="WHAT", help=what)
    command.add_argument("--json", action="store_true", help="for machines")
    command = _add(
        commands, "verify", _verify, "check that training gives equal bits on this machine",
        "Trains the same steps of a task again and again: plainly, with other loader workers, and killed and resumed; "
        "compares all that is left bit by bit. The exit status is 1 if anything differs.",
    )  # fmt: skip
    command.add_argument("task", metavar="TASK", help="hgpose, advpose, ...")
    command.add_argument("--steps", type=_count, default=8, metavar="N", help="of each training (default: 8)")
    command.add_argument(
        "--kills", type=_count, default=2, metavar="N", help="of the killed training (default: 2)"
    )
    command.add_argument(
        "--preset", metavar="NAME", help="parameters of presets/NAME.yaml (default: params.yaml)"
    )
    command.add_argument("--batch", type=_count, metavar="N", help="a batch of this size")
    command.add_argument("--set", type=_change, action="append", default=[], metavar="KEY=VALUE", dest="changes",
                         help="change a parameter; repeatable")  # fmt: skip
    command.add_argument("--prepared", type=Path, metavar="PATH", help="the prepared set, if elsewhere")
    command.add_argument("--keep", type=Path, metavar="FOLDER", help="leave what was trained there")


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


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a whole number of at least 1")
    return int(text)


def _change(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise argparse.ArgumentTypeError(f"found {text!r}, expected KEY=VALUE")
    return key, value


# --- published weights ---


def _add_published(commands: Commands) -> None:
    command = _add(
        commands, "import-weights", _import, "read published weights of other projects",
        "Writes a published checkpoint as model weights. Which network it is and of what size, its tensors tell. "
        "Nothing of the file but tensors and plain values is loaded: no code in it can run.",
    )  # fmt: skip
    command.add_argument(
        "source", type=Path, metavar="CHECKPOINT", help="a file as the other project saved it"
    )
    command.add_argument("--out", type=Path, required=True, help="for example models/imported/hgpose.pt")
    command.add_argument(
        "--kind", help="insist on this network, or choose it in the file: bearpaw_hg, umich_pose_ae, ..."
    )
    command.add_argument("--task", help="name to keep with the weights (default: hgpose or hgpose-ae)")
    command = _add(
        commands, "export-weights", _export, "write weights under the names of another project",
        "Writes model weights as a checkpoint that a published code of the same architecture reads.",
    )  # fmt: skip
    command.add_argument("weights", type=Path, metavar="WEIGHTS", help="models/TASK/last.pt or best.pt")
    kinds = "bearpaw_hg, roytseng_hgpose, roytseng_hgpose_ae, umich_pose_ae"
    command.add_argument("--kind", required=True, help=f"whose names: {kinds}")
    command.add_argument("--out", type=Path, required=True)


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
