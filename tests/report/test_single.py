"""What is shown of a single-person task, on people each further off than the one before."""

import json

import h5py
import numpy as np
from helpers import MPII

from pose.report.published import PUBLISHED
from pose.report.run import read_run
from pose.report.single import comparison, joints


class People:
    """As much of a prepared set as a caution asks for: people of MPII, and 300 of LSP, half to evaluate."""

    unit = "people"

    def __init__(self, mpii):
        self.people, self.source_N = self, np.repeat(["mpii", "lsp"], [mpii, 300])

    def rows(self, subset):
        return np.arange(len(self.source_N))[subset == "evaluation" :: 2]


def test_our_metrics_stand_beside_the_published_ones_and_their_sources(single_page, single_root):
    found = json.loads((single_root / "metrics/hgpose.json").read_text())["PCKh"]
    values = [found[name] for name in ("0.5", "0.5 weighted", *MPII.groups)]
    numbers = " ".join(f"{value:.1f}" for value in values)
    assert f"hgpose, PCKh@0.5 data/synthetic, 16 people {numbers}" in single_page.text
    published = "Hourglass, 8 stacks Newell et al. 2016 MPII test 90.9 98.2 96.3 91.2 87.1 90.1"
    assert published in single_page.text
    assert "COCO test-dev" not in single_page.text  # of multi-person tasks


def test_published_metrics_are_as_the_papers_print_them():
    values = [row.metrics.get("Mean", row.metrics.get("AP")) for row in PUBLISHED]
    assert values == [90.9, 91.8, 88.1, 87.33, 88.78, 90.2, 0.566, 0.630, 0.655, 0.593, 0.518]


def test_synthetic_and_small_sets_are_not_comparable(single_page, single_root, params_of):
    synthetic = "trained on 46 people of data/synthetic and evaluated on 26 others, all synthetic"
    assert f"Not comparable: {synthetic}" in single_page.text
    assert "LSPET people are cropped around their labelled joints" in single_page.text
    params = params_of("hgpose")
    params = params.model_copy(update={"data": params.data.model_copy(update={"root": "real"})})
    run = read_run(params, "hgpose", single_root)
    (words,) = comparison([run], People(mpii=1000)).caution
    assert words.startswith("Not comparable: trained on 650 people of real and evaluated on 650 others, ")
    (words,) = comparison([run], People(mpii=50_000)).caution
    assert words.startswith("Trained on 25,150 people of real, evaluated on 25,150. The rows of MPII val")


def test_the_best_and_the_worst_people_are_drawn_in_order(single_page, single_root):
    best, worst = single_page.view("best"), single_page.view("worst")
    assert list(best) == ["LSP/images/im0009.jpg", "LSP/images/im0010.jpg"]
    assert len(worst) == 2
    assert all(name.startswith("mpii/images/") for name in worst)
    assert list(best.values()) == ["14 of 14 joints right"] * 2
    assert all(caption.startswith("0 of 14 joints right") for caption in worst.values())
    assert "The 2 worst and the 2 best of 26 evaluated people" in single_page.text


def test_best_weights_are_owned_up_to_where_they_are_evaluated_on_who_chose_them(
    params_of, page_of, bare_root
):
    params = params_of("hgpose")
    best = params.model_copy(update={"evaluate": params.evaluate.model_copy(update={"weights": "best"})})
    words = "best on people held out of training, who are among those evaluated"
    assert words in page_of(bare_root, best).text


def test_joints_go_from_the_head_down_and_those_in_no_mean_are_faint(single_root):
    table = joints(single_root / "metrics/plots/hgpose/joints.csv", MPII)
    names = [row.cells[0].text for row in table.rows]
    assert names[:3] == ["head_top", "r_shoulder", "l_shoulder"]
    assert names[-5:] == ["r_ankle", "l_ankle", "upper_neck", "pelvis", "thorax"]
    assert [row.cells[0].text for row in table.rows if row.faint] == ["pelvis", "thorax"]


def test_metrics_without_head_sizes_still_make_a_page(single_copy, params_of, page_of):
    metrics = json.loads((single_copy / "metrics/hgpose.json").read_text())
    del metrics["PCKh"]
    (single_copy / "metrics/hgpose.json").write_text(json.dumps(metrics))
    page = page_of(single_copy, params_of("hgpose"))
    assert "within half a head size" not in page.text
    assert "within so many reference lengths of the truth" in page.text


def test_predictions_for_another_prepared_file_are_named(single_copy, params_of, page_of):
    with h5py.File(single_copy / "predictions/hgpose.h5", "a") as file:
        file["row"][:] = 80
    page = page_of(single_copy, params_of("hgpose"))
    assert "predictions/hgpose.h5: found rows up to 80, expected rows of" in page.text
    assert not page.captions
