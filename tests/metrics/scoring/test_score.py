"""`pose score`: metrics of predictions in any file, intervals, differences, and what is refused."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import COCO, LSP, user_error
from raw_sets import near, one_each

from pose.cli import run
from pose.data.formats.lsp import LSP_TO_MPII
from pose.data.image_set import ImageSet
from pose.data.person_set import PersonSet
from pose.data.prepare.categories import Joints
from pose.data.results import read_results, write_results
from pose.io.errors import UserError
from pose.io.schema import parse
from pose.keypoints.people import People
from pose.keypoints.results import ImageResult, Results, coco_results
from pose.keypoints.skeleton import Skeleton
from pose.metrics.oks import CocoTruth
from pose.metrics.pck import person_truth, single_person_scores
from pose.metrics.scoring.files import score_files
from pose.metrics.scoring.locate import locate
from pose.metrics.scoring.read_truth import read_truth
from pose.metrics.scoring.score import Row, Score
from pose.metrics.scoring.score import score as score_results
from pose.metrics.scoring.truth import Truth, TruthImage, annotated_people

Write = Callable[..., Path]


def values(score: Score, number: int = 0) -> dict[str, dict[str, float]]:
    tables: dict[str, dict[str, float]] = {}
    for row in score.rows:
        tables.setdefault(row.table, {})[row.metric] = row.values[number].value
    return tables


def row(score: Score, table: str, metric: str) -> Row:
    [found] = [one for one in score.rows if (one.table, one.metric) == (table, metric)]
    return found


# What evaluate writes is what score says


def test_people_by_row_have_the_scores_of_their_evaluation(people, rows_file):
    path = rows_file("hgpose.h5", 4.0)
    results = read_results(path)
    rows = np.array([one.row for one in results.images])
    joint_NK2 = np.concatenate([one.people.joint_PK2 for one in results.images])
    expected = single_person_scores(joint_NK2, person_truth(people, rows))
    score = score_files([path], people.path, resamples=50)
    assert values(score) == {table: pytest.approx(expected[table]) for table in ("PCKh", "PCK")}
    assert 10 < expected["PCKh"]["0.5"] < 95
    [counts] = score.counts
    assert counts["people"] == expected["people"]["all"] == len(rows)
    assert counts["with head size"] == expected["people"]["with head size"]
    for one in score.rows:
        low, high = one.values[0].interval
        assert low <= one.values[0].value <= high


def test_images_have_cocos_numbers_whether_anybody_is_predicted_in_them_or_not(images, coco_file):
    ids = images.id_I[images.rows("validation")].tolist()
    truth = CocoTruth(images.annotations("validation"), COCO)
    for path in (coco_file("all.json", 2.0), coco_file("some.json", 2.0, count=3)):
        entries = coco_results(read_results(path).images, rounded=False)
        expected = truth.evaluate_results(entries, ids).metrics()
        score = score_files([path], images.path.parent, resamples=0)
        assert values(score) == {"COCO": pytest.approx(expected, abs=1e-12)}
        assert score.counts[0]["images"] == len(ids)
        assert all(one.values[0].interval is None for one in score.rows)
    assert score.counts[0]["with predictions"] <= 3


def test_joint_by_joint_the_means_are_those_of_the_groups(people, images, rows_file, coco_file):
    by_joint = values(score_files([rows_file("a.h5", 4.0)], people.path, resamples=0, by_joint=True))
    knees = [by_joint["PCKh@0.5 by joint"][joint] for joint in ("l_knee", "r_knee")]
    assert by_joint["PCKh"]["Knee"] == pytest.approx(np.mean(knees))
    path = coco_file("a.json", 2.0)
    similarity = values(score_files([path], images.path.parent, resamples=0, by_joint=True))
    entries = coco_results(read_results(path).images, rounded=False)
    ids = images.id_I[images.rows("validation")].tolist()
    table = CocoTruth(images.annotations("validation"), COCO).evaluate_results(entries, ids).joints()
    expected = dict(zip(table["joint"], table["similarity"], strict=True))
    assert similarity["OKS similarity by joint"] == pytest.approx(expected)
    assert {"Head", "Knee"} <= set(similarity["OKS similarity"])


# Two files


def test_a_difference_is_of_the_same_images_and_so_surer_than_two_values(people, rows_file):
    files = [rows_file("worse.h5", 6.0), rows_file("better.h5", 5.5)]  # the same errors, a bit smaller
    score = score_files(files, people.path, resamples=200)
    pckh = row(score, "PCKh", "AUC")
    assert pckh.difference.value == pytest.approx(pckh.values[1].value - pckh.values[0].value)
    low, high = pckh.difference.interval
    widths = [one.interval[1] - one.interval[0] for one in pckh.values]
    assert 0 < low < high
    assert high - low < min(widths) / 2


def test_a_file_differs_from_itself_by_nothing(people, rows_file):
    path = rows_file("a.h5", 4.0)
    score = score_files([path, path], people.path, resamples=20)
    assert {(one.difference.value, one.difference.interval) for one in score.rows} == {(0, (0, 0))}


def test_the_samples_are_of_the_seed(images, coco_file):
    path = coco_file("a.json", 2.0)
    one, same, other = (
        row(score_files([path], images.path.parent, resamples=50, seed=seed), "COCO", "AP")
        for seed in (1, 1, 2)
    )
    assert one == same != other
    assert one.values[0].value == other.values[0].value


# Joints


def by_name(images: ImageSet, path: Path, order: Sequence[int], names: Sequence[str]) -> Path:
    """The same predictions as `joints.json`, with joints in another order under other names."""
    name_of = {int(number): images.name(place) for place, number in enumerate(images.id_I)}
    found = []
    for one in read_results(path).images:
        columns = one.people.joint_PK2[:, order], one.people.score_PK[:, order], one.people.score_P
        found.append(ImageResult(People(*columns), file=f"data/real/{name_of[one.image_id]}"))
    skeleton = parse(Skeleton, {"name": "other", "joints": [*names]}, "other")
    write_results(path.with_suffix(".names.json"), Results(found, skeleton, len(order)), "json")
    return path.with_suffix(".names.json")


def test_images_are_matched_by_name_and_joints_too_in_any_order(images, coco_file):
    path, order = coco_file("a.json", 2.0), np.random.default_rng(0).permutation(17)
    other = by_name(images, path, order, [COCO.joints[k].title().replace("_", " ") for k in order])
    score = score_files([path, other], images.path.parent, resamples=0)
    assert values(score, 1)["COCO"] == pytest.approx(values(score, 0)["COCO"], abs=1e-3)


def test_images_of_two_folders_are_not_taken_for_those_of_one(images, coco_file, tmp_path):
    """The same names in the folder of other images: their predictions are nobody's here."""
    names = {int(images.id_I[row]): images.name(row) for row in images.rows("validation")}
    results = read_results(coco_file("a.json", 2.0)).images
    found = [replace(one, file=f"val/{names[one.image_id]}") for one in results]
    both = [*found, *(replace(one, file=one.file.replace("val/", "train/")) for one in found)]
    for some, wrong in ((found, False), (both, True)):
        path = tmp_path / "named.json"
        write_results(path, Results([replace(one, image_id=None) for one in some], COCO, 17), "json")
        if wrong:
            with user_error(r"named\.json: found image .* twice, expected it once"):
                score_files([path], images.path.parent)
        else:
            assert values(score_files([path], images.path.parent, resamples=0))["COCO"]["AP"] > 0.5


def test_ids_that_are_of_other_images_by_name_are_refused(images, coco_file):
    """As of `pose predict --format coco` of images whose names are no numbers, which it counts."""
    path = coco_file("a.json", 2.0)
    entries = json.loads(path.read_text())
    names = {int(images.id_I[row]): images.name(row) for row in images.rows("validation")}
    path.write_text(json.dumps([one | {"file": names[one["image_id"]]} for one in entries]))
    score_files([path], images.path.parent, resamples=0)
    path.write_text(json.dumps([one | {"file": "photos/b.jpg"} for one in entries]))
    with user_error(r"a\.json: found image_id \d+ of photos/b\.jpg, expected ids of"):
        score_files([path], images.path.parent, resamples=0)


def test_people_of_images_are_scored_by_their_rows(images, tmp_path):
    """As of a single-person task on COCO: `predictions/hgpose-coco.h5`."""
    people = PersonSet(images.path.parent)
    rows = people.rows("validation")
    found = near(people.joint_NK2[rows], 1.0, 0)
    each = [ImageResult(one, row=int(row)) for one, row in zip(one_each(found), rows, strict=True)]
    write_results(tmp_path / "rows.h5", Results(each, people.skeleton, 17, task="t"), "rows")
    for truth in (images.path.parent, images.path):
        score = values(score_files([tmp_path / "rows.h5"], truth, resamples=0))
        assert score["COCO"]["AP"] > 0.8
    train = int(people.image_id_N[people.rows("train")[0]])
    write_results(tmp_path / "by_id.json", Results([replace(each[0], image_id=train)], COCO, 17), "coco")
    truth = read_truth(images.path, Joints(), people=True)
    with user_error(r"by_id\.json: found image \d+ of 1, expected those of"):
        locate(read_results(tmp_path / "by_id.json"), truth)


def test_a_joint_that_the_predictions_lack_is_named_if_anybody_has_it(images, coco_file):
    order = np.arange(16)  # no right ankle
    path = by_name(images, coco_file("a.json", 2.0), order, COCO.joints[:16])
    with user_error(r"names\.json: found no joint 'right_ankle' among those of other"):
        score_files([path], images.path.parent)


def test_lsps_14_joints_are_scored_against_people_in_mpiis_order(people, tmp_path):
    rows = people.rows("test")  # of LSP, which has neither pelvis nor thorax
    np.save(tmp_path / "a.npy", np.nan_to_num(people.joint_NK2[rows][:, LSP_TO_MPII]))
    joints, lengths = people.joint_NK2[rows], np.full(len(rows), 40.0)
    truth = Truth(
        *(people.path, annotated_people(joints, people.labelled_NK[rows], people.skeleton, length_N=lengths)),
        *([TruthImage()] * len(rows), np.arange(len(rows)), {"people": np.arange(len(rows))}),
    )
    results = replace(read_results(tmp_path / "a.npy"), skeleton=LSP)
    assert values(score_results([results], truth, resamples=0))["PCK"]["0.2"] == 100


def test_of_a_truth_of_several_categories_the_named_one_counts(images, coco_file, capsys):
    path = coco_file("a.json", 2.0)
    content = json.loads(images.annotations("validation").read_text())
    content["categories"].append({"id": 18, "name": "dog", "keypoints": ["nose", "tail"]})
    path.with_name("truth.json").write_text(json.dumps(content))
    command = f"score {path} --truth {path.with_name('truth.json')} --bootstrap 0 --format json".split()
    with user_error(r"truth\.json: found categories 'person', 'dog', expected one of them, by --category$"):
        run(command)
    run([*command, "--category", "person"])
    found = json.loads(capsys.readouterr().out)["tables"]["COCO"]["AP"]
    expected = score_files([path], images.path.parent, resamples=0)
    assert found["values"][0]["value"] == pytest.approx(values(expected)["COCO"]["AP"])
    run(["convert", *command[1:4], str(path.with_name("joints.json")), "--category", "person"])
    assert path.with_name("joints.json").is_file()


# What does not belong together


def refused(arguments: str) -> str:
    with pytest.raises(UserError) as error:
        run(["score", *arguments.split()])
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture
def wrong_files(files: None, images: ImageSet) -> None:
    """Beside the files of the fixture `files`, some that do not belong to their truth."""
    entries = json.loads(Path("results.json").read_text())
    others = [one | {"image_id": 10**6 + one["image_id"]} for one in entries]
    Path("other.json").write_text(json.dumps(others))
    few = read_results(Path("rows.h5"))
    write_results(Path("few.h5"), replace(few, images=few.images[:5]), "rows")
    far = [replace(one, row=10**6 + number) for number, one in enumerate(few.images)]
    write_results(Path("far.h5"), replace(few, images=far), "rows")
    write_results(Path("twice.h5"), replace(few, images=[*few.images, few.images[0]]), "rows")
    np.save("array.npy", np.zeros((7, 16, 2)))
    np.save("hands.npy", np.zeros((len(images.joint_NK2), 21, 2)))
    np.savez("bare.npz", joints=np.zeros((7, 16, 2)))
    frame = [ImageResult(near_nobody(), file="clip.mp4", frame=1, seconds=0.1)]
    write_results(Path("clip.json"), Results(frame, COCO, 17), "json")
    stranger = [ImageResult(near_nobody(), file="elsewhere.jpg")]
    write_results(Path("elsewhere.json"), Results(stranger, COCO, 17), "json")
    Path("short.yaml").write_text("joints: [a, b]\nsigmas: [0.1]\n")


def near_nobody() -> People:
    return People(np.ones((1, 17, 2)), np.ones((1, 17)), np.ones(1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("other.json --truth coco", r"found image \d+ and \d+ more of \d+, expected those of coco"),
        ("far.h5 --truth people.h5", "far.h5: found row 1000000, expected those of people.h5, 0 to"),
        ("twice.h5 --truth people.h5", "twice.h5: found a row twice, expected each once"),
        ("rows.h5 few.h5 --truth people.h5", r"few.h5: found 5 of \d+ of these, expected all people"),
        ("rows.h5 --truth coco", r"rows.h5: found row \d+, expected those of coco"),
        ("results.json --truth people.h5", "people.h5: has no image ids, expected those"),
        ("array.npy --truth people.h5", r"found 7 people, expected \d+ \(evaluated people\) or \d+"),
        ("clip.json --truth coco", "clip.json: found frames of the video clip.mp4, expected images"),
        ("elsewhere.json --truth coco", "found image elsewhere.jpg, expected one of coco.*: none"),
        ("array.npy --truth bare.npz", "bare.npz: found 16 joints and no names .* expected --skeleton"),
        ("array.npy --truth bare.npz --skeleton coco", "found 16 joints and 17 in coco, expected --skeleton"),
        ("array.npy --truth bare.npz --skeleton crowdpose", "bare.npz: found 16 joints and 14 in crowdpose"),
        ("array.npy --truth array.npy", "array.npy: found something else, expected annotations in COCO's"),
        ("array.npy --truth none.json", "none.json: no such file, expected annotations in COCO's"),
        ("none.json --truth people.h5", "none.json: no such file, expected predictions"),
        ("array.npy --truth bare.npz --skeleton short.yaml", "short.yaml: .*found 1 sigmas, expected 2"),
        ("array.npy --truth bare.npz --skeleton dog", "skeleton: found 'dog', expected one of ai"),
        ("results.json --truth results.json", "results.json: cannot be read as images, annotations"),
    ],
)
def test_what_does_not_belong_together_is_one_line(arguments, message, wrong_files):
    assert re.search(message, refused(arguments))


def test_people_in_another_order_than_the_truths_are_warned_of(people, tmp_path, caplog):
    rows = np.sort(np.concatenate([people.rows("validation"), people.rows("test")]))
    np.save(tmp_path / "a.npy", np.roll(np.nan_to_num(people.joint_NK2[rows]), 1, axis=0))
    score_files([tmp_path / "a.npy"], people.path, resamples=0)
    assert "a.npy: people are predicted no nearer to their own in" in caplog.text


# What is printed


def test_a_score_is_printed_as_a_table_as_markdown_and_as_json(files, capsys):
    options = "--truth", "people.h5", "--bootstrap", "20", "--seed", "3", "--format"
    command = ["score", "rows.h5", "rows.h5", *options]
    run([*command, "table"])
    title, counts, brackets, _, header, first, *_ = capsys.readouterr().out.splitlines()
    assert title == "rows.h5 and rows.h5 against people.h5 (mpii)"
    assert re.match(r"\d+ people, \d+ with head size, \d+ with reference length, \d+ images", counts)
    assert brackets == "In brackets: 95 % intervals, from 20 samples of the images (seed 3)."
    assert header.split() == ["rows.h5", "rows.h5", "second", "-", "first"]
    number = r"\d+\.\d\d"
    assert re.fullmatch(rf"PCKh@0.5( +{number} \({number} to {number}\)){{2}} +\+0.00 .*", first)
    run([*command, "markdown"])
    assert "| PCKh@0.5 weighted | " in capsys.readouterr().out
    run([*command, "json"])
    content = json.loads(capsys.readouterr().out)
    assert content["bootstrap"] == {"resamples": 20, "seed": 3, "level": 95}
    assert content["tables"]["PCKh"]["0.5"]["difference"] == {"value": 0, "low": 0, "high": 0}
