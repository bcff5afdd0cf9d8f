"""What annotated images hold: sizes, joints, and what looks wrong in them.

N people with labelled joints, I images, K joints, P pairs of a left and a right joint.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pose.data.formats.coco_json import RawCoco, is_labelled_person, keypoints_of
from pose.keypoints.skeleton import DEFAULT_SIGMA, LEFT, MIDDLE, RIGHT, Skeleton, side_and_part
from pose.metrics.truth import check_truth

SMALL = 32  # px at the network's input, half of which a heatmap shows as 4 cells
FEW = 0.05  # share of the people from which on something is worth a warning
AGREE, ENOUGH = 0.4, 10  # share of the people, of whom there must be so many


@dataclass(frozen=True)
class Statistics:
    """joint_NK2: px, NaN where not labelled. flag_NK: 0 not labelled, 1 hidden, 2 visible, as COCO's.

    box_N4: x, y, width, height, px. image_N2: width and height of each one's image, px. people_I: how many.
    """

    skeleton: Skeleton
    joint_NK2: np.ndarray
    flag_NK: np.ndarray
    box_N4: np.ndarray
    image_N2: np.ndarray
    people_I: np.ndarray

    @property
    def size_N(self) -> np.ndarray:
        """The longer side of the box, px."""
        longer: np.ndarray = self.box_N4[:, 2:].max(axis=1)
        return longer

    @property
    def share_N(self) -> np.ndarray:
        """The same over the longer side of the image."""
        share: np.ndarray = self.size_N / self.image_N2.max(axis=1)
        return share

    @property
    def at_border_N(self) -> np.ndarray:
        """(N,) bool: the box comes within a pixel of the image's border, so that some may be cut off."""
        low_N2, size_N2 = self.box_N4[:, :2], self.box_N4[:, 2:]
        return ((low_N2 < 1) | (low_N2 + size_N2 > self.image_N2 - 1)).any(axis=1)

    def __str__(self) -> str:
        if not len(self.box_N4):
            return f"{len(self.people_I):,} images, nobody with labelled joints"
        few, middle, most = np.percentile(self.size_N, (5, 50, 95))
        labelled = self.flag_NK > 0
        hidden = (self.flag_NK == 1).sum() / labelled.sum()
        return (
            f"{len(self.people_I):,} images, {len(self.box_N4):,} people, {self.people_I.mean():.1f} each;"
            f" longer side {few:.0f} to {most:.0f} px, median {middle:.0f} ({np.median(self.share_N):.0%} of"
            f" the image's); {self.at_border_N.mean():.0%} at the border; {labelled.mean():.0%} of joints"
            f" labelled, {hidden:.0%} of these hidden"
        )


def statistics(raw: RawCoco) -> Statistics:
    """Of the images and people of an annotation file."""
    sizes = {image["id"]: (image["width"], image["height"]) for image in raw.images}
    people_of = {
        number: [person for person in raw.people_of[number] if is_labelled_person(person)] for number in sizes
    }
    people = [person for found in people_of.values() for person in found]
    joint_NK2, flag_NK1 = np.split(keypoints_of(people, len(raw.skeleton)), [2], axis=2)
    return Statistics(
        raw.skeleton,
        np.where(flag_NK1 > 0, joint_NK2, np.nan),
        flag_NK1[..., 0].astype(int),
        np.array([person["bbox"] for person in people], dtype=np.float64).reshape(-1, 4),
        np.array([sizes[person["image_id"]] for person in people]).reshape(-1, 2),
        np.array([len(found) for found in people_of.values()]),
    )


def check_split(raw: RawCoco) -> list[str]:
    """Notes on a split: its statistics, and those of `check_truth`, which may refuse it."""
    return [str(statistics(raw)), *check_truth(raw)]


def find_faults(of_split: Mapping[str, Statistics], *, input_size: int, crop: float) -> list[str]:
    """What may hurt training or mislead its metrics, a line each.

    of_split: `train` and `validation`, or the one with people. input_size: of the multi-person network, px.
    crop: side of what the single-person network sees over the longer side of the box.
    """
    skeleton = next(iter(of_split.values())).skeleton
    lines = []
    for split, found in of_split.items():
        never = [skeleton.joints[k] for k in np.flatnonzero((found.flag_NK == 0).all(axis=0))]
        if never:
            lines.append(f"{split}: never labelled: {', '.join(never)}")
    paired = {k for pair in skeleton.flips for k in pair}
    alone = [name for k, name in enumerate(skeleton.joints) if k not in paired and _has_side(name)]
    if alone:
        lines.append(f"no pair of left and right, so mirrored images mislead: {', '.join(alone)}")
    if not skeleton.sigmas:
        lines.append(f"no sigmas: OKS takes {DEFAULT_SIGMA:g} for each joint; a skeleton file may give them")
    together = [*of_split.values()]
    joint_NK2 = np.concatenate([one.joint_NK2 for one in together])
    box_N4 = np.concatenate([one.box_N4 for one in together])
    image_N2 = np.concatenate([one.image_N2 for one in together])
    small_N = np.concatenate([one.share_N for one in together]) * input_size < SMALL
    if small_N.mean() > FEW:
        small = f"smaller than {SMALL} px where the whole image is {input_size} px wide (multi.input_size)"
        lines.append(f"{_part(small_N)} are {small}")
    middle_N12, size_N11 = (
        box_N4[:, None, :2] + box_N4[:, None, 2:] / 2,
        box_N4[:, 2:].max(axis=1)[:, None, None],
    )
    beyond_NK2 = (joint_NK2 < -0.5) | (joint_NK2 > image_N2[:, None] - 0.5)
    far_NK2 = np.abs(joint_NK2 - middle_N12) > crop / 2 * size_N11
    beyond_N, far_N = (np.array(one_NK2.any(axis=(1, 2))) for one_NK2 in (beyond_NK2, far_NK2))
    if beyond_N.any():
        lines.append(f"{_part(beyond_N)} have joints outside the image")
    if far_N.mean() > FEW:
        seen = f"what is seen of them, {crop:g} times their box (single.crop)"
        lines.append(f"{_part(far_N)} have joints outside {seen}")
    lines += _exchanged(skeleton, joint_NK2)
    poses = [{one.tobytes() for one in part.joint_NK2} for part in together]
    if len(poses) > 1 and (both := len(set.intersection(*poses))):
        lines.append(f"poses that are exactly the same in {' and '.join(of_split)}: {both:,}")
    return lines


def _has_side(joint: str) -> bool:
    return side_and_part(joint)[0] != MIDDLE or any(side in joint.lower() for side in (LEFT, RIGHT))


def _part(found_N: np.ndarray) -> str:
    return f"{found_N.sum():,} of {len(found_N):,} people ({found_N.mean():.0%})"


def _exchanged(skeleton: Skeleton, joint_NK2: np.ndarray) -> list[str]:
    """Pairs of joints that seldom point from right to left as the person's other pairs do."""
    pairs = []
    for one, other in skeleton.flips:
        side_of = {side_and_part(skeleton.joints[k])[0]: k for k in (one, other)}
        if side_of.keys() == {LEFT, RIGHT}:
            pairs.append((side_of[LEFT], side_of[RIGHT]))
    if len(pairs) < 2:
        return []
    left_P, right_P = np.array(pairs).T
    across_NP2 = joint_NK2[:, left_P] - joint_NK2[:, right_P]
    length_NP1 = np.linalg.norm(across_NP2, axis=2, keepdims=True)
    across_NP2 = np.divide(across_NP2, length_NP1, out=np.full_like(across_NP2, np.nan), where=length_NP1 > 0)
    known_NP = np.isfinite(across_NP2).all(axis=2)
    others_NP2 = np.nansum(across_NP2, axis=1, keepdims=True) - np.nan_to_num(across_NP2)
    agrees_NP = (across_NP2 * others_NP2).sum(axis=2)
    lines = []
    for p, (left, right) in enumerate(pairs):
        agrees_N = agrees_NP[known_NP[:, p] & (agrees_NP[:, p] != 0), p] > 0
        if len(agrees_N) >= ENOUGH and agrees_N.mean() < AGREE:
            names = f"{skeleton.joints[left]} and {skeleton.joints[right]}"
            lines.append(
                f"{names} lie the other way round than other pairs in {_part(~agrees_N)}: exchanged?"
            )
    return lines
