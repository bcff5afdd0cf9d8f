"""Choosing what people are grouped by: on images that training did not see and that are not tested on."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

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

    With `problem.by_tags` these are `detection` and `tag`, else `detection` and `reach`. They matter nearly, but not quite, independently
    of each other: they are chosen in turns until neither changes. What is chosen is the best of its line and its column, if not of all.
    """
    maps = [one for views, affine_B23 in answers(model, data, rows, batch=batch, flip=flip) for one in problem.maps(views, affine_B23)]

    other, values = ("tag", TAG) if problem.by_tags else ("reach", REACH)

    def with_both(detection: float, value: float) -> MultiPerson:
        thresholds = problem.params.thresholds.model_copy(update={"detection": detection, other: value})
        return replace(problem, params=problem.params.model_copy(update={"thresholds": thresholds}))

    @cache
    def score(detection: float, value: float) -> float:
        choice = with_both(detection, value)
        return data.evaluate([choice.people(one) for one in maps], rows).figures().get("AP", 0.0)

    def best(score_of: dict[float, float]) -> float:
        return max(score_of, key=score_of.__getitem__)

    both, before = (0.0, float(getattr(problem.params.thresholds, other))), None
    while both != before:  # this ends: the score never falls, and of equals an earlier one is taken
        before = both
        detection = best({one: score(one, both[1]) for one in DETECTION})
        both = (detection, best({one: score(detection, one) for one in values}))
    return with_both(*both)
