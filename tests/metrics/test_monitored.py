"""The table of monitored metrics."""

import pytest

from pose.io.schema import flatten
from pose.metrics.monitored import MONITORED, monitored, monitored_in

SINGLE = {"PCKh": {"0.5": 70.0, "0.1": 9.0, "Head": 90.0}, "PCK": {"0.2": 60.0}, "people": {"all": 3}}
MULTI = {"COCO": {"AP": 0.5, "AP50": 0.75, "AP75": 0.5, "AR": 0.25}, "images": {"all": 3}}


def test_monitored_metrics_are_found_in_scores_in_the_order_of_the_table():
    found = monitored("single", SINGLE)
    assert list(found.items()) == [("PCKh@0.5", 70.0), ("PCK@0.2", 60.0), ("PCKh@0.1", 9.0)]
    assert monitored("multi", MULTI, "train ") == {"train AP": 0.5, "train AP50": 0.75, "train AR": 0.25}


@pytest.mark.parametrize(("problem", "scores"), [("single", SINGLE), ("multi", MULTI)])
def test_they_are_the_same_in_a_metrics_file(problem, scores):
    assert monitored_in(problem, flatten(scores)) == monitored(problem, scores)


def test_where_nobody_is_found_precision_is_zero_and_accuracy_is_absent():
    assert monitored("multi", {"COCO": {}}) == {"AP": 0.0, "AP50": 0.0, "AR": 0.0}
    assert monitored("single", {"people": {"all": 3}}) == {}


def test_names_and_places_are_unique_and_perfect_values_are_known():
    for problem, best in (("single", 100.0), ("multi", 1.0)):
        metrics = MONITORED[problem]
        assert (
            len({metric.name for metric in metrics})
            == len({metric.path for metric in metrics})
            == len(metrics)
        )
        assert {metric.best for metric in metrics} == {best}
