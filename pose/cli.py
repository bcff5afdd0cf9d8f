"""The command `pose`. What a command needs is imported when it is run, so that `pose --help` answers at once."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from pose.errors import UserError, run_main

EXAMPLES = """\
examples:
  pose predict photo.jpg --weights models/hgpose/last.pt
  pose predict photos/ clip.mp4 --weights models/hgpose/last.pt --out drawn --format csv
  pose predict crowd.jpg --weights models/hgpose/last.pt --box 120,40,200,380
  pose predict street.jpg --weights models/hgpose-ae/last.pt         all people of a picture
  pose import-weights checkpoint.pth.tar --out models/imported/hgpose.pt
  pose preset paper                  write the published hyper-parameters into params.yaml
  pose gate --base origin/main       compare metrics/ with those of another revision
  pose show metrics/hgpose.json      back to revision, parameters, data, torch and device; also weights, a task, an MLflow run
  pose verify hgpose                 train some steps again, and once through kills: the same bits?

The pipeline itself is `make repro`, or `dvc repro`, `dvc exp run -S lr=2e-4`, `dvc metrics diff` and so on.
"""

FAR = 1e6  # pixels; no place in a picture is further from its corner (`pose.data.images.FAR`, which takes longer to import)
MOST_SCALE = 8.0  # as of `evaluate.scales`


def main() -> None:
    """Entry point of the console command."""
    run_main(run, sys.argv[1:])


def run(arguments: Sequence[str]) -> None:
    """Parse the arguments and run the command they name; SystemExit with a status other than 0 where it failed in part."""
    options = _parser().parse_args(arguments)
    failed = options.command(options)
    if failed:
        sys.exit(1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pose",
        description="2D human pose estimation: use trained weights, choose parameters, guard the figures.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the versions of pose and of what it is built on")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_predict(commands)
    _add_preset(commands)
    _add_gate(commands)
    _add_show(commands)
    _add_verify(commands)
    _add_import(commands)
    _add_export(commands)
    return parser


# --- pose predict ---


def _add_predict(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "predict",
        help="find people in pictures, folders and videos",
        description="Find the joints of people. Each picture is drawn again as a file of its name in the folder of --out, "
        "a video as mp4; joints.json or joints.csv there holds all joints, in pixels of the source, with their confidence.",
        epilog="A single-person network looks at one person in each picture: in the box, or at the centre and scale, that is given, "
        "else in the whole picture. A multi-person network (hgpose-ae) finds all people of a picture. "
        "A file that cannot be read is named; the others are done, and the exit status is 1.",
    )
    command.add_argument("sources", nargs="+", type=Path, metavar="SOURCE", help="a picture, a video, or a folder of them")
    command.add_argument("--weights", type=Path, required=True, help="trained weights: models/TASK/last.pt or best.pt")
    command.add_argument("--out", type=Path, default=Path("drawn"), help="folder for the results (default: %(default)s)")
    command.add_argument("--format", choices=["json", "csv"], default="json", help="of the joints (default: %(default)s)")
    command.add_argument(
        "--min-score",
        type=float,
        default=0.1,
        metavar="SCORE",
        help="leave out people below it, of multi-person weights (default: %(default)s)",
    )
    command.add_argument(
        "--scales", type=_scales, default=[1.0], metavar="1[,S...]", help="sizes at which a picture is looked at, of multi-person weights"
    )
    command.add_argument("--device", help="cpu, cuda or cuda:0 ... (default: a GPU where there is one)")
    place = command.add_argument_group("where the person is (single-person weights)")
    place.add_argument("--box", type=_numbers(4), metavar="X,Y,WIDTH,HEIGHT", help="box around the person, pixels")
    place.add_argument("--centre", type=_numbers(2), metavar="X,Y", help="middle of the person, pixels; with --scale")
    place.add_argument("--scale", type=float, help="height of the person over 200 pixels, as in the MPII and LSP annotations")
    command.set_defaults(command=_predict)


def _predict(options: argparse.Namespace) -> bool:
    box = _box(options)
    from pose.infer import Predictor
    from pose.predict import predict

    predictor = Predictor.load(options.weights, options.device, scales=options.scales)
    least = options.min_score if predictor.problem == "multi" else 0.0
    done, problems = predict(options.sources, predictor=predictor, out=options.out, box=box, min_score=least, format=options.format)
    if done:
        joints = options.out / f"joints.{options.format}"
        print(f"{joints}: {len(done)} of {len(done) + len(problems)} sources; their drawn copies are beside it")
    return bool(problems)


def _box(options: argparse.Namespace) -> tuple[float, float, float, float] | None:
    if (options.centre is None) != (options.scale is None):
        raise UserError("--centre and --scale: found one of them, expected both or neither")
    if options.centre is None:
        if options.box and min(options.box[2:]) <= 0:
            raise UserError(f"--box: found {options.box[2]:g} x {options.box[3]:g} pixels, expected a width and a height above 0")
        return options.box
    if options.box:
        raise UserError("--box: found with --centre and --scale, expected one or the other")
    if not 0 < 200 * options.scale <= FAR:
        raise UserError(f"--scale: found {options.scale:g}, expected a number above 0 and at most {FAR / 200:g}")
    (x, y), side = options.centre, 200 * options.scale
    return x - (side - 1) / 2, y - (side - 1) / 2, side, side  # pixel centres are at whole numbers


class _numbers:
    """Argument type: so many numbers with commas between them."""

    def __init__(self, count: int):
        self.count = count

    def __call__(self, text: str) -> tuple[float, ...]:
        try:
            numbers = tuple(float(part) for part in text.split(","))
        except ValueError:
            numbers = ()
        if len(numbers) != self.count or not all(abs(number) <= FAR for number in numbers):
            expected = f"{self.count} numbers with commas between them, none beyond {FAR:g}"
            raise argparse.ArgumentTypeError(f"found {text!r}, expected {expected}")
        return numbers


def _scales(text: str) -> list[float]:
    try:
        scales = [float(part) for part in text.split(",")]
    except ValueError:
        scales = []
    if 1.0 not in scales or not all(0 < scale <= MOST_SCALE for scale in scales):
        expected = f"numbers above 0 and at most {MOST_SCALE:g} with commas between them, 1 among them"
        raise argparse.ArgumentTypeError(f"found {text!r}, expected {expected}")
    return scales


# --- pose preset ---


def _add_preset(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "preset",
        help="write a preset's values into params.yaml",
        description="Write the values of presets/NAME.yaml into params.yaml, where its comments stay and `git diff` and "
        "`dvc params diff` show what changed. Without a name, list the presets.",
    )
    command.add_argument("name", nargs="?", metavar="NAME", help="demo, paper, ...")
    command.add_argument("--params", type=Path, default=Path("params.yaml"), metavar="FILE", help="(default: %(default)s)")
    command.set_defaults(command=_preset)


def _preset(options: argparse.Namespace) -> None:
    from pose.presets import apply_preset, describe, preset_names

    folder = options.params.parent / "presets"
    if options.name is None:
        for name in preset_names(folder):
            print(f"{name:10} {describe(name, folder)}")
        return
    changes = apply_preset(options.name, options.params, folder)
    for change in changes:
        print(change)
    print(f"{options.params}: {len(changes)} values changed" if changes else f"{options.params}: holds preset {options.name} already")


# --- pose gate ---


def _add_gate(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "gate",
        help="fail if the metrics have dropped against a revision",
        description="Compare the metrics in the workspace with those committed in a revision (`dvc metrics diff`). The exit status is 1 "
        "if one of them is missing or has dropped by more than the tolerance file allows.",
    )
    command.add_argument("--base", required=True, metavar="REVISION", help="branch, tag or commit to compare with")
    command.add_argument(
        "--tolerance", type=Path, default=Path(".github/tolerance.yaml"), metavar="FILE", help="largest drops (default: %(default)s)"
    )
    command.set_defaults(command=_gate)


def _gate(options: argparse.Namespace) -> bool:
    from pose.gate import judge, metrics_diff, read_tolerance

    tolerance = read_tolerance(options.tolerance)
    verdicts = judge(metrics_diff(options.base), tolerance)
    for verdict in verdicts:
        print(verdict)
    return not all(verdict.passed for verdict in verdicts)


# --- pose show ---


def _add_show(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "show",
        help="say where figures, weights or a run come from",
        description="From a metrics file, weights, a task or an MLflow run back to its revision, the hash of its data and of the code, "
        "torch, device and parameters. What cannot be found out is said in its line. Nothing is written, to the MLflow store neither.",
    )
    command.add_argument(
        "what",
        metavar="WHAT",
        help="metrics/TASK.json, models/TASK/last.pt, a task, or an MLflow run: its id, the first 6 characters of it or more, or its name",
    )
    command.add_argument("--json", action="store_true", help="for machines")
    command.set_defaults(command=_show)


def _show(options: argparse.Namespace) -> None:
    from pose.provenance import as_json, as_text, provenance

    print((as_json if options.json else as_text)(provenance(options.what)))


# --- pose verify ---


def _add_verify(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "verify",
        help="check that training gives the same bits on this machine",
        description="Train the same steps of a task again and again: plainly, with other loader workers, and killed and begun again; "
        "and compare all that is left bit by bit. The exit status is 1 if anything differs.",
    )
    command.add_argument("task", metavar="TASK", help="hgpose, advpose, ...")
    command.add_argument("--steps", type=_count, default=8, metavar="N", help="of each training (default: %(default)s)")
    command.add_argument("--kills", type=_count, default=2, metavar="N", help="of the training that is killed (default: %(default)s)")
    command.add_argument("--preset", metavar="NAME", help="parameters of presets/NAME.yaml (default: params.yaml as it is)")
    command.add_argument("--batch", type=_count, metavar="N", help="a batch of this size")
    command.add_argument("--set", type=_change, action="append", default=[], metavar="KEY=VALUE", help="change a parameter; repeatable")
    command.add_argument("--prepared", type=Path, metavar="PATH", help="the prepared set, if not where the stages put it")
    command.add_argument("--keep", type=Path, metavar="FOLDER", help="leave what was trained there")
    command.set_defaults(command=_verify)


def _verify(options: argparse.Namespace) -> bool:
    from pose.verify import verify

    same = verify(
        options.task,
        steps=options.steps,
        kills=options.kills,
        preset=options.preset,
        batch=options.batch,
        changes=dict(options.set),
        prepared=options.prepared,
        keep=options.keep,
    )
    return not same


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a whole number of at least 1")
    return int(text)


def _change(text: str) -> tuple[str, str]:
    key, found, value = text.partition("=")
    if not (key and found):
        raise argparse.ArgumentTypeError(f"found {text!r}, expected KEY=VALUE")
    return key, value


# --- pose import-weights, pose export-weights ---


def _add_import(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "import-weights",
        help="read published weights of other codes",
        description="Write a published checkpoint as weights for use, which `pose predict` and `pose.infer` load. Which network it is and "
        "of what size, its tensors tell. Nothing of the file but tensors and plain values is loaded: no code in it can run.",
    )
    command.add_argument("source", type=Path, metavar="CHECKPOINT", help="a file as the other code saved it")
    command.add_argument("--out", type=Path, required=True, help="for example models/imported/hgpose.pt")
    command.add_argument("--kind", help="insist on this network, or choose it among several in the file: bearpaw_hg, umich_pose_ae, ...")
    command.add_argument("--task", help="name to keep with the weights (default: hgpose or hgpose-ae, by the network)")
    command.set_defaults(command=_import)


def _import(options: argparse.Namespace) -> None:
    from pose.interop import write_imported

    published = write_imported(options.source, options.out, task=options.task, kind=options.kind)
    size = ", ".join(f"{name} {value}" for name, value in published.settings.items())
    print(f"{options.out}: {published.peer.name} ({size})")


def _add_export(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "export-weights",
        help="write weights under the names of another code",
        description="Write our weights as a checkpoint that a published code of the same architecture reads.",
    )
    command.add_argument("weights", type=Path, metavar="WEIGHTS", help="models/TASK/last.pt or best.pt")
    command.add_argument("--kind", required=True, help="whose names: bearpaw_hg, roytseng_hgpose, roytseng_hgpose_ae, umich_pose_ae")
    command.add_argument("--out", type=Path, required=True)
    command.set_defaults(command=_export)


def _export(options: argparse.Namespace) -> None:
    from pose.interop import export_file

    export_file(options.weights, options.out, options.kind)
    print(f"{options.out}: named as in {options.kind}")


# --- pose --version ---


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
