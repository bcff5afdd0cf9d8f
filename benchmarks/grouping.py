"""Grouping one image's heatmaps and tags into people, beside one dilation of each map.

The least that finding peaks can cost.

    python -m benchmarks.grouping        writes benchmarks/results/grouping.{json,md}

Legend: K joints, P people, h w heatmap cells, T tag dimensions.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import cv2
import numpy as np
import scipy

from pose.keypoints.grouping import GroupingParams, group
from pose.keypoints.skeleton import built_in

PEOPLE = (1, 3, 10, 30)
SIZES = (128, 256)  # cells a side
COCO = built_in("coco")
MISSING = 0.3  # share of joints that have no peak, about as in COCO: the refinement has to look for them
ROUNDS, WARM_UP = 100, 5
RESULTS = Path(__file__).parent / "results"

# A standing person, x and y in units of height, joints in COCO's order.
STANDING_K2 = np.array([
    [0, -0.42], [0.02, -0.44], [-0.02, -0.44], [0.05, -0.42], [-0.05, -0.42], [0.12, -0.3], [-0.12, -0.3],
    [0.17, -0.13], [-0.17, -0.13], [0.18, 0.03], [-0.18, 0.03], [0.08, 0.02], [-0.08, 0.02],
    [0.09, 0.25], [-0.09, 0.25], [0.1, 0.47], [-0.1, 0.47],
])  # fmt: skip


def scene(people: int, size: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Heatmaps (K, h, w) and tags (K, h, w, 2) as a trained network gives them, of people who overlap.

    Gaussians of 2 cells and 0.4 to 1 high over noise. Around a joint there is its person's tag, elsewhere
    that of the person who has any joint nearest.
    """
    rng = np.random.default_rng(seed)
    height_P = size * rng.uniform(0.15, 0.6, people) / people**0.25
    centre_P2 = rng.uniform(0.15, 0.85, (people, 2)) * size
    pose_PK2 = STANDING_K2 + rng.normal(0, 0.03, (people, len(COCO), 2))
    joint_PK2 = centre_P2[:, None] + height_P[:, None, None] * pose_PK2
    peak_PK = rng.uniform(0.4, 1, (people, len(COCO))) * (rng.random((people, len(COCO))) > MISSING)
    tag_P2 = (3 * rng.permutation(people) - 1.5 * people)[:, None] + rng.normal(0, 0.2, (people, 2))

    grid_hw2 = np.stack(np.meshgrid(np.arange(size), np.arange(size)), axis=2)
    square_PKhw = np.stack(
        [np.square(grid_hw2 - joint_K2[:, None, None]).sum(axis=3) for joint_K2 in joint_PK2]
    )
    heatmap_PKhw = peak_PK[:, :, None, None] * np.exp(-square_PKhw / 8)
    heatmap_Khw = heatmap_PKhw.max(axis=0).astype(np.float32)
    nearest_Khw = np.where(
        heatmap_Khw > 0.05, heatmap_PKhw.argmax(axis=0), square_PKhw.min(axis=1).argmin(axis=0)
    )
    tag_Khw2 = tag_P2[nearest_Khw].astype(np.float32)
    heatmap_Khw += rng.normal(0, 0.01, heatmap_Khw.shape).astype(np.float32)
    tag_Khw2 += rng.normal(0, 0.1, tag_Khw2.shape).astype(np.float32)
    return heatmap_Khw, np.moveaxis(
        np.ascontiguousarray(np.moveaxis(tag_Khw2, 3, 0)), 0, 3
    )  # T first in memory, as two passes give it


def seconds(call: Callable[[], object]) -> float:
    """CPU time of one call.

    All of it is in this thread, and on a busy machine the wall clock would count others.
    """
    start = time.thread_time()
    call()
    return time.thread_time() - start


def measured(people: int, size: int) -> dict[str, float]:
    """Medians over rounds in which the limit and the grouping take turns: a busy machine slows both."""
    heatmap, tag = scene(people, size, seed=people)
    square, refined, bare = np.ones((3, 3), dtype=np.uint8), GroupingParams(), GroupingParams(refine=False)
    calls: dict[str, Callable[[], object]] = {
        "limit": lambda: [cv2.dilate(heatmap_hw, square) for heatmap_hw in heatmap],
        "grouping": lambda: group(heatmap, tag, refined, skeleton=COCO),
        "unrefined": lambda: group(heatmap, tag, bare, skeleton=COCO),
    }
    rounds = [{name: seconds(call) for name, call in calls.items()} for _ in range(WARM_UP + ROUNDS)][
        WARM_UP:
    ]
    found = group(heatmap, tag, bare, skeleton=COCO)
    return {
        "size": size,
        "people": people,
        "peaks": int((found.score_PK > 0).sum()),
        "filled_in": int(
            (group(heatmap, tag, refined, skeleton=COCO).score_PK > 0).sum() - (found.score_PK > 0).sum()
        ),
        **{f"{name}_ms": 1e3 * median(times[name] for times in rounds) for name in calls},
        "ratio": median(times["grouping"] / times["limit"] for times in rounds),
        "ratio_unrefined": median(times["unrefined"] / times["limit"] for times in rounds),
    }


def main() -> None:
    """Measure all cases, print the table, write it and the numbers."""
    cv2.setNumThreads(1)
    rows = [measured(people, size) for size in SIZES for people in PEOPLE]
    versions = {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "opencv": cv2.__version__,
    }
    text = "\n".join([
        "# Grouping one image into people",
        "",
        f"17 joints, 2 tag dimensions, one thread, CPU time, medians of {ROUNDS} rounds in turn; "
        f"{', '.join(f'{name} {version}' for name, version in versions.items())}, {platform.machine()}.",
        "The limit is one dilation of each map. Ratios are medians of each round's own.",
        "",
        "| map | people | peaks | filled in | limit, ms | grouping, ms | times the limit |"
        " without refinement, ms | times the limit |",
        "|---|---|---|---|---|---|---|---|---|",
        *(
            f"| {row['size']} | {row['people']} | {row['peaks']} | {row['filled_in']} |"
            f" {row['limit_ms']:.2f} | {row['grouping_ms']:.2f} | {row['ratio']:.1f} |"
            f" {row['unrefined_ms']:.2f} | {row['ratio_unrefined']:.1f} |"
            for row in rows
        ),
        "",
    ])  # fmt: skip
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "grouping.md").write_text(text, encoding="utf-8")
    numbers = {"versions": versions, "rounds": ROUNDS, "rows": rows}
    (RESULTS / "grouping.json").write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
