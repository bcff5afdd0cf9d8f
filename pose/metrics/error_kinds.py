"""What is wrong with a joint that is not where it should be.

After Ronchi and Perona, Benchmarking and error diagnosis in multi-instance pose estimation (arXiv
1707.05388), but for one limit: jitter is within twice the distance that is right.
"""

from __future__ import annotations

import numpy as np

JITTER = 2.0  # times the distance that is right


def error_kinds(
    wrong_NK: np.ndarray, near_NK: np.ndarray, twin_NK: np.ndarray, other_NK: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Each wrong joint as one kind of error, the first that fits; (N, K) bool by kind.

    jitter: near its place, within JITTER times the distance that is right. inversion: where the person's
    left or right counterpart is. swap: where that joint, or its counterpart, of another person is; without
    `other_NK` there is no such kind. miss: anywhere else, or not found.
    """
    kinds, rest_NK = {}, wrong_NK
    fits = {"jitter": near_NK, "inversion": twin_NK}
    for kind, fit_NK in (fits if other_NK is None else fits | {"swap": other_NK}).items():
        kinds[kind] = rest_NK & fit_NK
        rest_NK = rest_NK & ~fit_NK
    return kinds | {"miss": rest_NK}
