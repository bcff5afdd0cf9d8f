"""`pose predict`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from pose.cli.command import Commands, add_command
from pose.io.command import MAX_COORDINATE, Numbers, count_or_zero, positive, scales, share
from pose.io.errors import UserError


def add(commands: Commands) -> None:
    """Add these commands to the parser."""
    more = (
        "SOURCE is an image, a video, a folder of them, a glob in quotes, the number of a camera, or a URL:"
        " of an image, a video, or a stream (http, rtsp). Each image is drawn again as a file of its name in"
        " the folder of --out, a video as mp4; joints.json or joints.csv there holds all joints, in pixels of"
        " the source, with their confidence. A single-person network looks at one person in each image: in"
        " the box, or at the centre and scale, that is given, else in the whole image. A multi-person network"
        " (hgpose-ae) finds all people. A source that cannot be read is named; the others are done, and the"
        " exit status is 1."
    )
    arg = add_command(commands, "predict", _predict, "find people in images, videos and streams", more)
    arg("sources", nargs="+", metavar="SOURCE", help="first of all the weights, unless --weights has them")
    files = "models/TASK/last.pt or best.pt, or an .onnx file of pose export (default: the first argument)"
    arg("--weights", type=Path, help=files)
    arg("--recursive", action="store_true", help="also what is in folders of a folder")
    again = "single-person weights that look again at each person found (multi-person weights)"
    arg("--refine", type=Path, metavar="WEIGHTS", help=again)
    arg("--out", type=Path, default=Path("drawn"), help="folder for the results (default: drawn)")
    arg("--no-draw", dest="draw", action="store_false", help="only write the joints")
    formats = "of the joints: coco is COCO's format of results (default: json)"
    arg("--format", choices=["json", "csv", "coco"], default="json", help=formats)
    arg("--timeout", type=positive, default=10.0, metavar="SECONDS", help="for a URL to answer (default: 10)")
    arg("--track", action="store_true", help="people keep an id from frame to frame of a video")
    near = "least similarity (OKS) of a person to where they are expected (default: 0.1)"
    arg("--track-threshold", type=share, default=0.1, metavar="OKS", help=near)
    unseen = "frames that somebody may be unseen and keep the id (default: 30)"
    arg("--track-lost", type=count_or_zero, default=30, metavar="FRAMES", help=unseen)
    few = "leave out people below it (multi-person weights; default: 0.1)"
    arg("--min-score", type=float, default=0.1, metavar="SCORE", help=few)
    sizes = "sizes at which people are shown, over that of training"
    arg("--scales", type=scales, default=[1.0], metavar="1[,S...]", help=sizes)
    arg("--no-flip", dest="flip", action="store_false", help="not on mirrored images too: twice as fast")
    arg("--device", help="cpu, cuda or cuda:0 ... (default: a GPU where there is one)")
    where = "(single-person weights)"
    arg("--box", type=Numbers(4), metavar="X,Y,WIDTH,HEIGHT", help=f"around the person, pixels {where}")
    objpos = "the person's objpos as MPII annotates it: counted from 1, and for the crop moved down by 15 *"
    arg("--centre", type=Numbers(2), metavar="X,Y", help=f"{objpos} scale pixels; with --scale {where}")
    arg("--scale", type=float, help=f"the person's height over 200 pixels, as MPII annotates it {where}")


def _predict(
    sources: list[str],
    weights: Path | None,
    refine: Path | None,
    scales: list[float],
    flip: bool,
    device: str | None,
    min_score: float,
    box: tuple[float, ...] | None,
    centre: tuple[float, ...] | None,
    scale: float | None,
    track: bool,
    track_threshold: float,
    track_lost: int,
    **output: Any,
) -> bool:
    person = _box(box, centre, scale)
    if weights is None:
        first, *sources = sources
        weights = Path(first)
        if not sources:
            raise UserError(f"pose predict: found no source beside {first}, expected WEIGHTS SOURCE ...")
    from pose.inference.predict import predict
    from pose.inference.predictor import Predictor
    from pose.keypoints.track import Tracker

    predictor = Predictor.load(weights, device, flip=flip, scales=scales, refine=refine)
    least = min_score if predictor.problem == "multi" else 0.0
    tracker = partial(Tracker, predictor.skeleton, threshold=track_threshold, max_lost=track_lost)
    done, problems = predict(
        sources,
        predictor=predictor,
        box=person,
        min_score=least,
        tracker=tracker if track else None,
        **output,
    )
    if done:
        number = f"{len(done)} of {len(done) + len(problems)} sources"
        beside = "; their drawn copies are beside it" if output["draw"] else ""
        suffix = "csv" if output["format"] == "csv" else "json"
        print(f"{output['out'] / f'joints.{suffix}'}: {number}{beside}")
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
