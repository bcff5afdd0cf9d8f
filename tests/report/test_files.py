"""Reading what the stages wrote."""

import json

import numpy as np
import pytest
from helpers import user_error

from pose.report.files import read_coco_results, read_history


def test_gaps_words_and_repeated_steps_in_a_history_do_no_harm(tmp_path):
    (tmp_path / "a.csv").write_text(
        "step,lr,heatmap,note\n10,0.1,,x\n20,0.1,inf,y\n10,0.2,0.5,z\n30,,1e300,\nb,1,1,1\n"
    )
    history = read_history(tmp_path / "a.csv", "step")
    assert list(history) == ["step", "lr", "heatmap"]
    np.testing.assert_array_equal(history, [[10, 0.2, 0.5], [20, 0.1, np.nan], [30, np.nan, np.nan]])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a,b\n1,2\n", "no column step, found a, b"),
        ("step,loss\n", "no rows"),
        ("step,loss\nx,1\n", "no rows yet"),
        ('step,loss\n1,"2\n', "cannot be read as CSV"),
        (",".join(f"c{number}" for number in range(300)), "found 300 columns, expected at most 200"),
    ],
)
def test_a_history_that_cannot_be_used_is_refused_by_name(tmp_path, content, words):
    (tmp_path / "a.csv").write_text(content)
    with user_error(rf"a\.csv: {words}"):
        read_history(tmp_path / "a.csv", "step")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[1]",
        '{"image_id": 1}',
        "3",
        '[{"image_id": 1, "score": 1, "keypoints": [1, 2, 3]}]',
        '[{"image_id": 1, "keypoints": []}]',
        '[{"image_id": "a", "score": 1, "keypoints": []}]',
    ],
)
def test_what_is_not_in_cocos_format_is_refused_by_name(tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    with user_error(r"a\.json: (cannot be read as (JSON|COCO results of 17 joints)|result 1: )"):
        read_coco_results(tmp_path / "a.json", 17)


@pytest.mark.parametrize("joints", [2, None])
def test_joints_without_a_score_were_not_found(tmp_path, joints):
    results = [{"image_id": 7, "score": score, "keypoints": [1, 2, 0.5, 3, 4, 0]} for score in (0.2, 0.6)]
    (tmp_path / "a.json").write_text(json.dumps(results))
    (people,) = read_coco_results(tmp_path / "a.json", joints).values()
    np.testing.assert_array_equal(people.joint_PK2, [[[1, 2], [np.nan, np.nan]]] * 2)
    assert people.score_P.tolist() == [0.6, 0.2]  # sorted
