"""Whether annotations can be scored on: found as they are, their people must reach an AP of 1."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import numpy as np

from pose.data.formats.coco_json import Entry, RawCoco, is_labelled_person, keypoints_of
from pose.io.errors import UserError
from pose.keypoints.people import People
from pose.metrics.oks import CocoTruth

MOST_IMAGES = 2000  # with people: the first ones stand for all, since all of COCO takes minutes
MOST_FOUND = 20  # people of an image whom COCO's metric counts
GOOD, LEAST = 0.999, 0.5  # AP


def check_truth(raw: RawCoco) -> list[str]:
    """A note if COCO's metric does not count some people although they are found.

    UserError if it counts nobody, or too few for its numbers to mean anything.
    """
    with_people = (number for number, people in raw.people_of.items() if any(map(is_labelled_person, people)))
    ids = [*islice(with_people, MOST_IMAGES)]
    if not ids:
        count = sum(len(people) for people in raw.people_of.values())
        raise UserError(f"{raw.path}: none of {count:,} people has a labelled joint, expected some to score")
    labelled = {
        image_id: [dict(person) for person in raw.people_of[image_id] if is_labelled_person(person)]
        for image_id in ids
    }
    images = [image for image in raw.images if image["id"] in labelled]
    sample = replace(raw, images=images, people_of=labelled)
    evaluation = CocoTruth(sample, raw.skeleton).evaluate(
        [_as_found(labelled[image_id], len(raw.skeleton)) for image_id in ids], ids
    )
    ap = evaluation.metrics().get("AP", 0.0)
    if ap >= GOOD:
        return []
    crowded = {image_id for image_id, people in labelled.items() if len(people) > MOST_FOUND}
    matched = evaluation.matched()
    missed = [(one, image_id) for image_id in ids for one in labelled[image_id] if one["id"] not in matched]
    in_crowds = sum(image_id in crowded for _, image_id in missed)
    first = f"annotation {missed[0][0]['id']} of image {missed[0][1]}" if missed else "none"
    note = (
        f"found exactly as annotated, people score AP {ap:.3f}: {len(missed):,} are not counted"
        f" (first: {first}); {in_crowds:,} stand in images of more than {MOST_FOUND} people, of whom no more"
        " count, the others have an area out of range or joints that coincide with another's"
    )
    if ap < LEAST:
        raise UserError(f"{raw.path}: {note}, expected AP 1")
    return [note]


def _as_found(people: list[Entry], joints: int) -> People:
    keypoint_PK3 = keypoints_of(people, joints)
    is_labelled_PK = keypoint_PK3[..., 2] > 0
    joint_PK2 = np.where(is_labelled_PK[..., None], keypoint_PK3[..., :2], np.nan)
    return People(joint_PK2, is_labelled_PK.astype(float), np.ones(len(people)))
