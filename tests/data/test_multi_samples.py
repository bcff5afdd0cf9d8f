"""Samples of many people: draws, the one affine, targets, masks, batches."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from helpers import (
    ROOT,
    annotation_file_content,
    coco_params,
    crowd_entry,
    image_entry,
    perfect_output,
    person_entry,
    prepare_images,
    write_annotations,
)

from pose.data.image_set import ImageSet
from pose.data.loader import Loader
from pose.data.multi_samples import (
    ImageDataset,
    MultiAugment,
    RawMultiBatch,
    image_affine,
    image_sample,
    input_size,
    letterbox,
)
from pose.data.synthetic.sets import synthesize_coco
from pose.io.images import encode_jpeg
from pose.keypoints.geometry import invert, to_cell, to_px, transform
from pose.keypoints.heatmap import decode
from pose.keypoints.skeleton import COCO
from pose.params import CocoParams, MultiAugmentParams, SplitCounts, parse_params, read_yaml
from pose.tasks.base import TTAOutput
from pose.tasks.multi import MultiPerson

AUGMENT = MultiAugmentParams(
    rotation=30, scale=0.25, shift=0.2, flip=0.5, hue=72, saturation=0.5, brightness=0.3, contrast=0.5
)
DEMO = parse_params(read_yaml(ROOT / "params.yaml")).multi
PARAMS = DEMO.model_copy(
    update={"input": 128, "sigma": 1.0, "target": "subcell", "people": 30, "augment": AUGMENT}
)
RAW = {"loss": "mse", "tag_gain": 1.0}  # of a network whose answer is heatmaps and tags as they are
TURNED = MultiAugment(
    angle=25, widen=1.1, shift=(0.05, -0.1), flip=True, hue=40, saturation=0.7, brightness=0.1, contrast=1.2
)
AUGMENTS = {
    "upright": MultiAugment(),
    "turned": MultiAugment(angle=-20, widen=0.9),
    "turned, flipped and recoloured": TURNED,
}
SIZE = 200, 150
EVERYONE = coco_params(longest=128)  # every image with people; what the pictures show is of no account here
# Region of the crowd: 40 columns of the image, from column 100 on.
CROWD_LOW, CROWD_LENGTH = 100 * 150, 40 * 150


def spread(number: int) -> list[float]:
    """The keypoints of a person, well away from those of the others."""
    rng = np.random.default_rng(number)
    places_K2 = np.array([20, 20]) + np.array([150, 100]) * rng.random((17, 2))
    return np.column_stack([places_K2, np.where(rng.random(17) < 0.8, 2, 0)]).round(2).ravel().tolist()


def keypoints(number: int) -> dict[str, object]:
    numbers = spread(number)
    return {"keypoints": numbers, "num_keypoints": sum(flag > 0 for flag in numbers[2::3])}


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    """Rows: 0 two people and a green crowd on red, 1 one person, 2 nobody, 3 a validation image."""
    root = tmp_path_factory.mktemp("raw")
    images = [image_entry(number, size=SIZE) for number in (1, 2, 3)]
    everyone = [
        person_entry(1, 1, **keypoints(1)),
        person_entry(2, 1, **keypoints(2)),
        crowd_entry(3, 1, CROWD_LOW, CROWD_LENGTH, SIZE),
        person_entry(4, 2, **keypoints(4)),
    ]
    write_annotations(root, "train2017", annotation_file_content(images, everyone))
    write_annotations(
        root,
        "val2017",
        annotation_file_content([image_entry(9, size=SIZE)], [person_entry(9, 9, **keypoints(9))]),
    )
    picture = np.full((SIZE[1], SIZE[0], 3), (200, 40, 40), dtype=np.uint8)
    picture[:, 100:140] = (40, 200, 40)
    (root / "coco" / "train2017" / f"{1:012d}.jpg").write_bytes(encode_jpeg(picture, 100))
    nobody: CocoParams = coco_params(
        min_people=SplitCounts(train=0, validation=0), longest=180, ignore_unlabelled=False
    )
    return prepare_images(root, nobody)[0]


# ---- one affine for everything ----


@pytest.mark.parametrize("augment", AUGMENTS.values(), ids=AUGMENTS)
def test_decoding_a_samples_target_gives_the_annotated_joints_in_image_pixels(
    people: ImageSet, augment: MultiAugment
) -> None:
    sample = image_sample(people, 1, PARAMS, augment)
    joint_cell, score = decode(torch.from_numpy(sample.heatmap_Khw)[None])
    joint_K2 = transform(invert(sample.affine_23), to_px(joint_cell[0].numpy()))
    shown_K = score[0].numpy() > 0.5
    if augment.flip:
        joint_K2, shown_K = joint_K2[COCO.flip_index], shown_K[COCO.flip_index]
    true_PK2, labelled_PK = people.joints(1)
    np.testing.assert_array_equal(shown_K & ~labelled_PK[0], False)
    assert shown_K.sum() >= labelled_PK.sum() - 3
    np.testing.assert_allclose(joint_K2[shown_K], true_PK2[0, shown_K], atol=0.01)


@pytest.mark.parametrize("augment", AUGMENTS.values(), ids=AUGMENTS)
def test_the_mask_hides_the_crowd_wherever_the_image_goes(people: ImageSet, augment: MultiAugment) -> None:
    plain = MultiAugment(
        augment.angle, augment.widen, augment.shift, augment.flip
    )  # its colours would hide red and green
    sample = image_sample(people, 0, PARAMS, plain)
    cell_px = 4 / np.linalg.norm(sample.affine_23[:, 0])
    x_hw, y_hw = np.meshgrid(np.arange(32.0), np.arange(32.0))
    place_hw2 = transform(invert(sample.affine_23), to_px(np.stack([x_hw, y_hw], axis=2)))
    inside_hw = (place_hw2 > -0.5).all(axis=2) & (place_hw2 < np.array(SIZE) - 0.5).all(axis=2)
    expected_hw = ~(inside_hw & (place_hw2[..., 0] > 99.5) & (place_hw2[..., 0] < 139.5))
    assert (sample.mask_hw == expected_hw).mean() > 0.99
    assert 0 < (sample.mask_hw == 0).sum() == pytest.approx((40 * 150) / cell_px**2, rel=0.35)
    # And the picture is green there: well within the crowd, and well within the rest.
    blurred_hw3 = cv2.resize(sample.image_HW3, (32, 32), interpolation=cv2.INTER_AREA).astype(int)
    kernel = np.ones((3, 3), np.uint8)
    crowd_hw = cv2.erode((sample.mask_hw == 0).astype(np.uint8), kernel).astype(bool)
    rest_hw = cv2.erode((inside_hw & (sample.mask_hw > 0)).astype(np.uint8), kernel).astype(bool)
    assert crowd_hw.sum() > 20
    assert (blurred_hw3[crowd_hw, 1] > 150).all()
    assert (blurred_hw3[rest_hw, 0] > 150).all()


def test_an_image_without_a_crowd_is_looked_at_everywhere(people: ImageSet) -> None:
    assert image_sample(people, 1, PARAMS, TURNED).mask_hw.all()


def test_in_use_the_whole_image_stands_in_the_middle_of_a_black_square(people: ImageSet) -> None:
    sample = image_sample(people, 0, PARAMS)
    corners = transform(sample.affine_23, np.array([[-0.5, -0.5], [199.5, 149.5]]))
    np.testing.assert_allclose(corners, [[-0.5, 15.5], [127.5, 111.5]])
    assert sample.image_HW3[:15].max() == sample.image_HW3[113:].max() == 0
    assert sample.image_HW3[17:111].max(axis=2).min() > 100
    same, affine = letterbox(people.image(0)[0], 128)
    np.testing.assert_allclose(sample.image_HW3.astype(int), same, atol=2)
    np.testing.assert_allclose(
        transform(affine, transform(people.image(0)[1], corners)),
        transform(sample.affine_23, corners),
        atol=1e-6,
    )


def test_a_large_picture_loses_no_pixels_when_it_is_made_small() -> None:
    stripes = np.zeros((512, 512, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    shown, _ = letterbox(stripes, 64)
    assert abs(shown.astype(int) - 127).max() <= 12  # a warp alone would show some stripes and skip others


def test_colours_change_but_not_the_black_around_the_image(people: ImageSet) -> None:
    augment = MultiAugment(brightness=0.3, contrast=0.5, hue=50)
    sample = image_sample(people, 0, PARAMS, augment)
    assert sample.image_HW3[:15].max() == 0
    assert (
        np.abs(sample.image_HW3.astype(int) - image_sample(people, 0, PARAMS).image_HW3)[30:100].mean() > 20
    )


def test_an_image_of_one_pixel_can_be_shown() -> None:
    shown, affine = letterbox(np.full((1, 1, 3), 90, dtype=np.uint8), 64)
    assert shown.shape == (64, 64, 3)
    np.testing.assert_allclose(transform(affine, np.array([0.0, 0.0])), [31.5, 31.5])


def test_further_sizes_show_the_same_image(people: ImageSet) -> None:
    sample = image_sample(people, 0, PARAMS, scales=(0.5, 2))
    assert [image.shape for image, _ in sample.others] == [(64, 64, 3), (256, 256, 3)]
    for size, (_, affine) in zip((64, 256), sample.others, strict=True):
        np.testing.assert_allclose(affine, image_affine(np.array(SIZE), size))


@pytest.mark.parametrize(("scale", "size"), [(0.5, 256), (1, 512), (2, 1024), (1.1, 576)])
def test_input_sizes_are_rounded_up_to_what_the_network_takes(scale: float, size: int) -> None:
    assert input_size(512, scale) == size


# ---- draws ----


def test_draws_are_uniform_within_their_bounds() -> None:
    rng = np.random.default_rng(0)
    draws = [MultiAugment.draw(rng, AUGMENT) for _ in range(3000)]
    bounds = {"angle": (-30, 30), "widen": (0.75, 1.25), "hue": (-72, 72), "brightness": (-0.3, 0.3)}
    bounds |= {"saturation": (0.5, 1.5), "contrast": (0.5, 1.5)}
    for name, (low, high) in bounds.items():
        values = np.array([getattr(draw, name) for draw in draws])
        assert low <= values.min() < values.max() <= high
        quarters, _ = np.histogram(values, bins=4, range=(low, high))
        assert quarters == pytest.approx([750] * 4, rel=0.15), name
    shifts = np.array([draw.shift for draw in draws])
    assert np.abs(shifts).max(axis=0) == pytest.approx([0.2, 0.2], rel=0.02)
    assert np.mean([draw.flip for draw in draws]) == pytest.approx(0.5, abs=0.04)


def test_a_draw_depends_on_seed_epoch_and_row_alone(people: ImageSet) -> None:
    rows = people.rows("train")
    first = ImageDataset(people, rows, PARAMS, seed=1, augment=True)[2, 1]
    again = ImageDataset(people, rows[1:], PARAMS, seed=1, augment=True)[2, 0]
    other = ImageDataset(people, rows, PARAMS, seed=1, augment=True)[3, 1]
    np.testing.assert_array_equal(first.affine_23, again.affine_23)
    np.testing.assert_array_equal(first.image_HW3, again.image_HW3)
    assert not np.array_equal(first.affine_23, other.affine_23)


def test_shift_moves_by_a_share_of_the_square_shown() -> None:
    still, moved = (
        image_affine(np.array(SIZE), 128, MultiAugment(widen=1.2, shift=shift))
        for shift in ((0.0, 0.0), (0.2, -0.1))
    )
    np.testing.assert_allclose(
        transform(moved, np.zeros(2)) - transform(still, np.zeros(2)), [-0.2 * 128, 0.1 * 128]
    )


@pytest.mark.parametrize(
    ("augment", "colour", "expected"),
    [
        (MultiAugment(), (10, 130, 250), (10, 130, 250)),
        (MultiAugment(hue=120), (200, 0, 0), (0, 200, 0)),
        (MultiAugment(hue=-120), (200, 0, 0), (0, 0, 200)),
        (MultiAugment(saturation=0.5), (200, 100, 100), (200, 150, 150)),
        (MultiAugment(saturation=1.5), (200, 0, 0), (200, 0, 0)),
        (MultiAugment(brightness=0.2), (10, 100, 250), (61, 151, 255)),
        (MultiAugment(contrast=0.5), (80, 100, 120), (90, 100, 110)),
    ],
)
def test_colours_change_as_said(
    augment: MultiAugment, colour: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    found = augment.recolour(np.full((2, 3, 3), colour, dtype=np.uint8))
    assert found.dtype == np.uint8
    assert np.abs(found.astype(int) - expected).max() <= 1


# ---- batches ----


def test_people_are_padded_to_the_most_of_the_batch(people: ImageSet) -> None:
    batch = RawMultiBatch.of([image_sample(people, row, PARAMS) for row in (1, 0, 2)]).to(torch.device("cpu"))
    assert batch.image_B3HW.shape == (3, 3, 128, 128)
    assert batch.heatmap_BKhw.shape == (3, 17, 32, 32)
    assert (batch.mask_Bhw.shape, batch.mask_Bhw.dtype) == ((3, 32, 32), torch.float32)
    assert (batch.cell_BPK.shape, batch.cell_BPK.dtype) == ((3, 2, 17), torch.int64)
    assert (batch.cell_BPK[0, 1] == -1).all()
    assert (batch.cell_BPK[2] == -1).all()
    assert batch.row_B.tolist() == [1, 0, 2]
    assert 0.5 < batch.image_B3HW.max() <= 1
    true_PK2, labelled_PK = people.joints(0)
    cell_PK2 = np.round(to_cell(transform(batch.affine_B23[1].numpy(), true_PK2)))
    expected_PK = np.where(labelled_PK, np.nan_to_num(cell_PK2[..., 1] * 32 + cell_PK2[..., 0]), -1)
    np.testing.assert_array_equal(batch.cell_BPK[1], expected_PK)


def test_a_batch_of_empty_images_has_room_for_one_person_who_is_not_there(people: ImageSet) -> None:
    raw = RawMultiBatch.of([image_sample(people, 2, PARAMS)])
    assert raw.cell_BPK.tolist() == [[[-1] * 17]]


def test_no_more_people_are_taught_tags_than_said_but_all_have_heatmaps(people: ImageSet) -> None:
    few = image_sample(people, 0, PARAMS.model_copy(update={"people": 1}))
    every = image_sample(people, 0, PARAMS)
    assert (len(few.cell_PK), len(every.cell_PK)) == (1, 2)
    np.testing.assert_array_equal(few.heatmap_Khw, every.heatmap_Khw)


def test_someone_wholly_outside_is_no_one(people: ImageSet) -> None:
    sample = image_sample(people, 1, PARAMS, MultiAugment(shift=(3.0, 0.0)))
    assert sample.cell_PK.shape == (0, 17)
    assert not sample.heatmap_Khw.any()
    assert not sample.image_HW3.any()


def test_workers_do_not_change_what_is_loaded(people: ImageSet) -> None:
    dataset = ImageDataset(people, people.rows("train"), PARAMS, seed=1, augment=True, scales=(0.5,))
    batches = [[(epoch, 0), (epoch, 2), (epoch, 1)] for epoch in range(2)]

    def load(workers: int) -> list[RawMultiBatch]:
        return list(Loader(dataset, batches, workers=workers))

    for alone, shared in zip(load(0), load(2), strict=True):
        assert torch.equal(alone.image_BHW3, shared.image_BHW3)
        assert torch.equal(alone.heatmap_BKhw, shared.heatmap_BKhw)
        assert torch.equal(alone.cell_BPK, shared.cell_BPK)
        assert torch.equal(alone.others[0][0], shared.others[0][0])


# ---- nothing is lost between the annotations and COCO's figures ----


def perfect_ap(
    folder: Path,
    *,
    size: int,
    sigma: float,
    target: str = "subcell",
    flip: bool = False,
    reach: float | None = None,
) -> float:
    """AP of a network without fault on the validation images, read and scored as a trained one's output is.

    Images and targets are those of training without augmentation. flip: it also sees the mirror images.
    reach: grouped by distance.
    """
    problem = MultiPerson(PARAMS.model_copy(update={"input": size, "sigma": sigma, "target": target} | RAW))
    if reach is not None:
        thresholds = problem.params.thresholds.model_copy(update={"max_distance": reach})
        problem = replace(
            problem, by_tags=False, params=problem.params.model_copy(update={"thresholds": thresholds})
        )
    data = problem.data(folder, watched=0)
    rows, found = data.rows("test"), []
    for row in rows.tolist():
        upright = image_sample(data.images, row, problem.params)
        samples = (
            [upright, image_sample(data.images, row, problem.params, MultiAugment(flip=True))]
            if flip
            else [upright]
        )
        outputs = [
            torch.from_numpy(perfect_output(sample.heatmap_Khw, sample.cell_PK))[None, None]
            for sample in samples
        ]
        views = [
            TTAOutput(output, mirrored) for output, mirrored in zip(outputs, (False, True), strict=False)
        ]
        found += problem.decode(views, torch.from_numpy(upright.affine_23)[None])
    return data.score(found, rows)["COCO"]["AP"]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared set of drawn pictures, whose folder it is."""
    root = tmp_path_factory.mktemp("drawn")
    synthesize_coco(train=2, validation=100, seed=1, root=root, workers=1)
    return prepare_images(root, EVERYONE)[0].folder


@pytest.fixture(scope="module")
def mini(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of real ones."""
    if not (real_data / "coco-mini").is_dir():
        pytest.skip(f"no coco-mini in {real_data}")
    root = tmp_path_factory.mktemp("mini")
    (root / "coco").symlink_to((real_data / "coco-mini").resolve())
    return prepare_images(root, EVERYONE)[0].folder


# What is lost: two people's same joint in one cell, which has one tag; in adjacent cells, where one summit
# hides the other; in the outermost cells, which have a neighbour on one side only. The smaller the maps, the
# more of each.
@pytest.mark.parametrize(("size", "sigma"), [(192, 0.75), (192, 1.5), (512, 2.0)])
def test_a_network_without_fault_scores_nearly_one_on_drawn_pictures(
    drawn: Path, size: int, sigma: float
) -> None:
    assert perfect_ap(drawn, size=size, sigma=sigma) >= 0.985


@pytest.mark.parametrize(("size", "sigma"), [(192, 1.0), (512, 2.0)])
def test_a_network_without_fault_scores_nearly_one_on_real_images(
    mini: Path, size: int, sigma: float
) -> None:
    assert perfect_ap(mini, size=size, sigma=sigma) >= 0.97


def test_whose_a_joint_is_distance_alone_does_not_tell_in_drawn_pictures(drawn: Path) -> None:
    assert max(perfect_ap(drawn, size=128, sigma=1.0, reach=reach) for reach in (0.3, 0.7, 1.5, 3.0)) < 0.7


def test_mirror_images_lose_nothing(drawn: Path) -> None:
    assert perfect_ap(drawn, size=192, sigma=1.0, flip=True) >= 0.985


def test_the_published_convention_loses_what_lies_between_cells(drawn: Path) -> None:
    assert 0.6 <= perfect_ap(drawn, size=192, sigma=1.0, target="floor") < 0.97
