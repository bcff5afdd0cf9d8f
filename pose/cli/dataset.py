"""Data sets of one's own: `pose new-dataset`."""

from __future__ import annotations

from pose.cli.command import Commands, add_command

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
    arg("--skeleton", metavar="NAME", help=f"{names} (default: the source's)")
    arg("--category", help="its name, where the source has several with keypoints")
    each = "single: one person a crop; multi: all people of an image (default: both)"
    arg("--problem", choices=PROBLEMS, action="append", help=f"{each}; repeatable")


def _new_dataset(
    sources: list[str],
    name: str | None,
    skeleton: str | None,
    category: str | None,
    problem: list[str] | None,
) -> None:
    from pose.experiments.new_dataset import new_dataset

    problems = [one for one in PROBLEMS if one in (problem or PROBLEMS)]
    print(*new_dataset(sources, name=name, skeleton=skeleton, category=category, problems=problems), sep="\n")
