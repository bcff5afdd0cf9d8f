"""Predictions made anywhere: `pose score`, `pose convert`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pose.cli.command import Commands, add_command
from pose.io.command import count_or_zero


def add(commands: Commands) -> None:
    """Add these commands to the parser."""
    known = "COCO results, joints.json or .csv, predictions/TASK.h5, pred.mat, .npy or .npz"
    skeleton = "of files that do not name their joints: mpii, lsp, coco, ..., or a YAML file"
    category = "its name, where the truth has several with keypoints"
    truth = "annotations in COCO's format, a prepared set, gt_valid.mat, valid.h5 or arrays (.npz)"

    more = (
        "PCKh, PCK and AUC of people, OKS AP and AR of images, whichever the truth allows, each with a"
        " bootstrap interval over images; of two files also the difference, on the same images."
    )
    arg = add_command(commands, "score", _score, "score predictions made anywhere", more)
    arg("predictions", type=Path, metavar="PREDICTIONS", help=known)
    arg("other", nargs="?", type=Path, metavar="OTHER", help="more of them, to compare")
    arg("--truth", type=Path, required=True, help=truth)
    arg("--skeleton", metavar="NAME", help=skeleton)
    arg("--category", help=category)
    arg("--joints", dest="by_joint", action="store_true", help="also joint by joint")
    arg("--format", choices=["table", "json", "markdown"], default="table", help="default: %(default)s")
    samples = "samples of the images, 0 for no intervals (default: %(default)s)"
    arg("--bootstrap", dest="resamples", type=count_or_zero, default=1000, metavar="N", help=samples)
    arg("--seed", type=count_or_zero, default=0, help="of these samples (default: %(default)s)")

    more = "What OUT does not hold is said in a line. What IN does not say of its images, --truth does."
    arg = add_command(commands, "convert", _convert, "write predictions in another format", more)
    arg("source", type=Path, metavar="IN", help=known)
    arg(
        "target", type=Path, metavar="OUT", help="its suffix says the format, with --format where two have it"
    )
    arg("--format", choices=["json", "csv", "coco", "rows", "preds", "numpy"], help="of OUT")
    arg("--truth", type=Path, help=f"which images and people they are of: {truth}")
    arg("--skeleton", metavar="NAME", help=skeleton)
    arg("--category", help=category)


def _score(predictions: Path, other: Path | None, format: str, **settings: Any) -> None:
    from pose.metrics.scoring.files import score_files
    from pose.metrics.scoring.text import FORMATS

    files = [predictions, *([other] if other else [])]
    print(FORMATS[format](score_files(files, **settings)))


def _convert(target: Path, **settings: Any) -> None:
    from pose.metrics.scoring.files import convert

    print(f"{target}: {convert(target=target, **settings)}")
