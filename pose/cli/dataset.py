"""Data sets of one's own: `pose new-dataset`, `pose data check`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pose.cli.command import Commands, add_command
from pose.io.command import share
from pose.io.errors import UserError

PROBLEMS = ("single", "multi")


def add(commands: Commands) -> None:
    """Add these commands to the parser."""
    more = (
        "A source is an annotation file in COCO's format, a folder with such files and their images, a folder"
        " of LSP, LSPET or MPII, or a published lsp_mpii.h5; several are joined. Writes the data set and a"
        " task for each problem into params.yaml, their stages into dvc.yaml; comments stay."
    )
    arg = add_command(commands, "new-dataset", _new_dataset, "add a data set of your own", more)
    arg("sources", nargs="+", metavar="SOURCE", help="an annotation file, or a folder")
    arg("--name", help="of the data set and its tasks (default: that of the source)")
    names = "coco, mpii, ... or a YAML file, which may complete the joints of the source"
    skeleton = {"metavar": "NAME", "help": f"{names} (default: the source's)"}
    category = {"help": "its name, where the source has several with keypoints"}
    assume = {"action": "store_true", "help": "a category without a list of keypoints has the skeleton's"}
    arg("--skeleton", **skeleton)
    arg("--category", **category)
    arg("--assume-joints", **assume)
    each = "single: one person a crop; multi: all people of an image (default: both)"
    arg("--problem", choices=PROBLEMS, action="append", help=f"{each}; repeatable")
    held = "share of the images, where the sources do not say which validate (default: %(default)s)"
    arg("--validation", type=share, default=0.2, metavar="SHARE", help=held)
    begins = "weights to begin from: models/TASK/last.pt, or imported ones; of either problem"
    arg("--init", metavar="WEIGHTS", help=begins)

    data = commands.add_parser("data", help="look at a data set: pose data check")
    inner = data.add_subparsers(title="commands", metavar="COMMAND", required=True)
    more = (
        "Sizes, joints, what will be left out and why, what looks wrong, and the truth's own score; a page"
        " with drawn samples. Trains nothing and changes nothing."
    )
    arg = add_command(inner, "check", _check, "say what is in a data set before training on it", more)
    arg("sources", nargs="*", metavar="SOURCE", help="as of `pose new-dataset`")
    arg("--name", help="instead of sources: one of datasets in params.yaml")
    arg("--skeleton", **skeleton)
    arg("--category", **category)
    arg("--assume-joints", **assume)
    arg("--out", type=Path, default=Path("data-check"), help="folder for the page (default: data-check)")


def _new_dataset(sources: list[str], problem: list[str] | None, **about: Any) -> None:
    from pose.experiments.new_dataset import new_dataset

    problems = [one for one in PROBLEMS if one in (problem or PROBLEMS)]
    print(*new_dataset(sources, problems=problems, **about), sep="\n")


def _check(sources: list[str], name: str | None, out: Path, **about: Any) -> None:
    if bool(sources) == bool(name):
        raise UserError("pose data check: expected sources, or --name and one of datasets in params.yaml")
    from pose.experiments.data_check import check_data
    from pose.experiments.new_dataset import default_name, own_dataset
    from pose.params import load_params

    if name and (said := [key for key, value in about.items() if value]):
        found = f"found --name with --{said[0].replace('_', '-')}"
        raise UserError(f"pose data check: {found}, expected datasets.{name} to say it")
    params = load_params()
    spec = params.dataset(name) if name else own_dataset(sources, problems=PROBLEMS, **about)
    print(*check_data(name or default_name(sources), spec, params, out), sep="\n")
