"""What is shown of tasks on a data set of one's own: nobody has published anything on it."""

import raw_sets as raw

from pose.report.published import PUBLISHED


def test_no_published_metrics_and_cautions_of_other_sets_stand_beside_its_own(own_page):
    assert not [row.network for row in PUBLISHED if row.network in own_page.text]
    assert "comparable" not in own_page.text
    assert "LSP" not in own_page.text.partition("Data and parameters")[0]
    assert "hand, PCK@0.2 hand, " in own_page.text
    assert "hand-ae, this run hand, " in own_page.text


def test_its_joints_and_its_best_and_worst_images_are_shown(own_page):
    assert "Joint by joint" in own_page.text
    assert "Joint PCK@0.2 jitter inversion miss PCK people" in own_page.text  # no groups: it has none
    assert "Data: hand, " in own_page.text
    assert "Study" not in own_page.text
    assert all(f" {joint} " in own_page.text for joint in raw.HAND)
    assert len(own_page.captions) == 4
    assert "3 of 3 joints right" in own_page.text
    assert "1 of 1 people found" in own_page.text
    assert "Prepared set hand, problem single" in own_page.text
