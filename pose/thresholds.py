"""Choosing what people are grouped by: on images that training did not see and that are not tested on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pose.infer import answers
from pose.multi import MultiData, MultiPerson
from pose.task import Model

# Coarse: what differs by less is chance. A peak of the mean of two maps is seldom high.
DETECTION = (0.5, 0.4, 0.3, 0.25, 0.2, 0.15, 0.1, 0.05)
TAG = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
REACH = (0.15, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0)


def with_best_thresholds(model: Model, problem: MultiPerson, data: MultiData, rows: np.ndarray, *, batch: int, flip: bool) -> MultiPerson:
    """The problem with those thresholds by which what the network sees in these images scores the highest AP; of equals the first.

    With `problem.by_tags` these are `detection` and `tag`, else `detection` and `reach`.
    """
    maps = [one for views, affine_B23 in answers(model, data, rows, batch=batch, flip=flip) for one in problem.maps(views, affine_B23)]

    def changed(old: MultiPerson, key: str, value: float) -> MultiPerson:
        thresholds = old.params.thresholds.model_copy(update={key: value})
        return replace(old, params=old.params.model_copy(update={"thresholds": thresholds}))

    def score(choice: MultiPerson) -> float:
        return data.evaluate([choice.people(one) for one in maps], rows).figures().get("AP", 0.0)

    # One after the other: they matter nearly independently of each other.
    best = max((changed(problem, "detection", value) for value in DETECTION), key=score)
    key, values = ("tag", TAG) if problem.by_tags else ("reach", REACH)
    return max((changed(best, key, value) for value in values), key=score)
