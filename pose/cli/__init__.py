"""The command `pose`. What a command needs is imported when it runs: `pose --help` is instant."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence

from pose.cli import app, dataset, experiments, pipeline, predict, published, score
from pose.cli.command import CommandParser
from pose.io.command import run_command

EXAMPLES = """\
examples:
  pose train hgpose                  what `dvc repro train@hgpose` runs; resumes where it was interrupted
  pose data check data/hand          what is in it, and what looks wrong: data-check/index.html
  pose new-dataset data/hand         train on your own images: `dvc repro evaluate@hand`
  pose predict models/hgpose/last.pt photo.jpg
  pose predict models/hgpose-ae/last.pt photos/ clip.mp4 --out drawn --format csv
  pose predict models/hgpose/last.pt crowd.jpg --box 120,40,200,380
  pose app models/hgpose-ae/last.pt  a page in your browser: drop an image or a video, see people drawn
  pose score predictions/hgpose.h5 predictions/advpose.h5 --truth data/prepared/lsp_mpii.h5
  pose import-weights checkpoint.pth.tar --out models/imported/hgpose.pt
  pose preset paper                  write the published hyper-parameters into params.yaml
  pose show metrics/hgpose.json      where metrics, weights or a task come from
  pose verify hgpose                 do equal runs, and killed ones, give equal bits on this machine?

The whole pipeline is `pose repro` or `dvc repro`; experiments are `dvc exp run -S lr=0.03`.
"""

# Without any arguments these, and `pose` itself, show their help.
NEED_ARGUMENTS = (
    *("init", "train", "evaluate", "link-data", "new-dataset", "data", "predict", "gate", "show", "verify"),
    *("app", "score", "convert", "import-weights", "export-weights", "export", "release", "fetch"),
)


# Beside another busy process their networks were three to eight times slower on two cores, because OpenMP's
# threads spin while they wait for each other. Sleeping costs them nothing; of training, whose operations are
# shorter, it would make 1.7 times the time with two threads.
WAIT_ASLEEP = "predict", "app"


def main() -> None:
    """Entry point of the console command."""
    if sys.argv[1:] and sys.argv[1] in WAIT_ASLEEP:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is imported
    run_command(run, sys.argv[1:])


def run(arguments: Sequence[str]) -> None:
    """Run the command that the arguments name; SystemExit with status 1 where it failed in part."""
    if not arguments:
        parser().print_help()
        return
    if len(arguments) == 1 and arguments[0] in NEED_ARGUMENTS:
        arguments = [*arguments, "--help"]
    options = vars(parser().parse_args(_joined(arguments)))
    if options.pop("function")(**options) is False:
        sys.exit(1)


def _joined(arguments: Sequence[str]) -> list[str]:
    """`--box -5,0,90,200` as `--box=-5,0,90,200`: argparse takes what begins with a minus for an option."""
    joined = list[str]()
    for word in arguments:
        if joined and joined[-1].startswith("--") and re.match(r"-[\d.]+,", word):
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


def parser() -> argparse.ArgumentParser:
    """The parser of all commands; `function` of what it returns runs the one that was named."""
    root = argparse.ArgumentParser(
        prog="pose",
        description="2D human pose estimation: train, evaluate and use pose networks, reproducibly.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    root.add_argument("--version", action=_Version, nargs=0, default=argparse.SUPPRESS, help="show versions")
    titles = {"title": "commands", "metavar": "COMMAND"}
    commands = root.add_subparsers(**titles, required=True, parser_class=CommandParser)
    for module in (pipeline, dataset, predict, app, score, experiments, published):
        module.add(commands)
    return root


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import PackageNotFoundError, version

        for name in ("pose", "torch", "opencv-python-headless", "mlflow", "dvc"):
            try:
                print(f"{name} {version(name)}")
            except PackageNotFoundError:
                print(f"{name} not installed")
        parser.exit()
