"""`pose predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pose.cli.command import Commands, add_command
from pose.io.command import MAX_COORDINATE, Numbers, scales
from pose.io.errors import UserError


def add(commands: Commands) -> None:
    """Add these commands to the parser."""
    more = (
        "Each image is drawn again as a file of its name in the folder of --out, a video as mp4; joints.json"
        " or joints.csv there holds all joints, in pixels of the source, with their confidence. A"
        " single-person network looks at one person in each image: in the box, or at the centre and scale,"
        " that is given, else in the whole image. A multi-person network (hgpose-ae) finds all people. A file"
        " that cannot be read is named; the others are done, and the exit status is 1."
    )
    arg = add_command(commands, "predict", _predict, "find people in images, folders and videos", more)
    arg("sources", nargs="+", type=Path, metavar="SOURCE", help="an image, a video, or a folder")
    arg("--weights", type=Path, required=True, help="models/TASK/last.pt or best.pt")
    again = "single-person weights that look again at each person found (multi-person weights)"
    arg("--refine", type=Path, metavar="WEIGHTS", help=again)
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
    refine: Path | None,
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

    predictor = Predictor.load(weights, device, scales=scales, refine=refine)
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
