"""Tuning the thresholds of grouping, on images that are neither trained nor evaluated on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

# Coarse, since smaller differences are chance. Peaks of the mean of two maps are rarely high.
DETECTION = (0.5, 0.4, 0.3, 0.25, 0.2, 0.15, 0.1, 0.05)
TAG = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
MAX_DISTANCE = (0.15, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0)


def tune_thresholds(
    score: Callable[[float, float], float], start: float, values: Sequence[float]
) -> tuple[float, float]:
    """The pair of a value of DETECTION and one of `values` (TAG, MAX_DISTANCE) with the highest score.

    The two are tuned in turns until neither changes, which is the best of its row and its column, if not of
    all pairs. Of equal scores the first is taken. start: of the second.
    """
    score = cache(score)

    def best(score_of: dict[float, float]) -> float:
        return max(score_of, key=score_of.__getitem__)

    both, before = (0.0, start), None
    while both != before:  # this ends: the score never falls, and of equals an earlier one is taken
        before = both
        detection = best({value: score(value, both[1]) for value in DETECTION})
        both = (detection, best({value: score(detection, value) for value in values}))
    return both
