"""Files of predictions, scored against the truth or written in another format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pose.data.prepare.categories import Joints, named_skeleton
from pose.data.results import FORMATS, check_content, format_of, read_results, write_results
from pose.io.errors import UserError
from pose.keypoints.people import People
from pose.keypoints.results import ImageResult, Results
from pose.metrics.scoring.locate import locate
from pose.metrics.scoring.read_truth import read_truth
from pose.metrics.scoring.score import Score, score


def score_files(
    files: Sequence[Path],
    truth: Path,
    skeleton: str | None = None,
    category: str | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
    by_joint: bool = False,
) -> Score:
    """Score one file of predictions, or two against each other; see `pose.metrics.scoring.score`.

    skeleton: of files that do not name their joints, its name or YAML file. category: of the truth, where it
    has several with joints. UserError, naming a file, for what cannot be read or does not belong together.
    """
    joints = _joints(skeleton, category)
    results = [read_results(path) for path in files]
    annotated = read_truth(truth, joints, people=any(map(_is_by_row, results)))
    named = [_named(one, joints) for one in results]
    return score(named, annotated, resamples=resamples, seed=seed, by_joint=by_joint)


def convert(
    source: Path,
    target: Path,
    format: str | None = None,
    truth: Path | None = None,
    skeleton: str | None = None,
    category: str | None = None,
) -> str:
    """Write predictions in another format and return in a line what was written, and what it does not hold.

    format: of `target`, where its suffix does not say it. truth: tells which images and people they are of.
    UserError if the format needs what is not known.
    """
    joints, name = _joints(skeleton, category), format_of(target, format)
    results = _named(read_results(source), joints)
    if truth:
        annotated = read_truth(truth, joints, people=_is_by_row(results))
        results = locate(results, annotated)
        if not annotated.is_prepared:
            results = replace(results, images=[replace(one, row=None) for one in results.images])
    if FORMATS[name].key == "file":
        results = replace(results, images=_by_file(results))
    check_content(results, name)
    write_results(target, results, name)
    lacks = f" (it does not hold {FORMATS[name].lacks})" if FORMATS[name].lacks else ""
    return f"{len(results):,} people, format {name}{lacks}"


def _joints(skeleton: str | None, category: str | None) -> Joints:
    named, completes = named_skeleton(skeleton, Path(skeleton or "").stem)
    return Joints(named, completes, category=category, assumed=named is not None)


def _named(results: Results, joints: Joints) -> Results:
    """With the joints of `--skeleton`, where the file does not name its own."""
    skeleton = joints.skeleton
    if results.skeleton or skeleton is None or not len(results):
        return results
    if len(skeleton) != results.joints:
        found = f"{results.joints} joints, and {len(skeleton)} in --skeleton {skeleton.name}"
        raise UserError(f"{results.path}: found {found}, expected as many")
    return replace(results, skeleton=skeleton)


def _is_by_row(results: Results) -> bool:
    """Whether it predicts people of a prepared set, of one of images too."""
    return any(one.row is not None for one in results.images)


def _by_file(results: Results) -> list[ImageResult]:
    """The people of each image together: rows are one person each."""
    images: dict[tuple[str | None, int | None], list[ImageResult]] = {}
    for one in results.images:
        images.setdefault((one.file, one.frame), []).append(one)
    return [
        replace(same[0], people=People.join([one.people for one in same], results.joints))
        for same in images.values()
    ]
