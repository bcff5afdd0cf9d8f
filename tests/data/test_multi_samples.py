"""Samples of several people: the one affine for pixels, joints and mask; batches."""

import copy

import cv2
import numpy as np
import pytest
import torch
from coco_files import (
    ALL,
    coco_params,
    crowd_entry,
    image_entry,
    person_entry,
    prepare_images,
    write_annotations,
)
from helpers import COCO, CPU, ROOT

from pose.data.augment import MultiAugment
from pose.data.batch import Batch
from pose.data.image_set import ImageSet
from pose.data.multi_samples import (
    ImageDataset,
    further_sizes,
    image_affine,
    image_inputs,
    image_targets,
    letterbox_inputs,
)
from pose.io.images import encode_jpeg
from pose.keypoints.geometry import invert, to_cell, to_px, transform
from pose.keypoints.heatmap import decode
from pose.params import MultiParams, load_params

PARAMS = load_params(ROOT / "params.yaml").multi.model_copy(
    update={"input_size": 128, "sigma": 1.0, "target": "subcell", "people": 30}
)
TURNED = MultiAugment(
    angle=25, widen=1.1, shift=(0.05, -0.1), flip=True, hue=40, saturation=0.7, brightness=0.1, contrast=1.2
)
UPRIGHT = MultiAugment()
AUGMENTS = {"upright": UPRIGHT, "turned": MultiAugment(angle=-20, widen=0.9), "turned and flipped": TURNED}
WIDTH, HEIGHT = SIZE = 200, 150
CROWD_X = 100, 140  # columns of the crowd in image 1


def spread(number: int) -> dict[str, object]:
    """Keypoints of a person anywhere in the image, 80 % of them labelled."""
    rng = np.random.default_rng(number)
    place_K2 = np.array([20, 20]) + np.array([150, 100]) * rng.random((17, 2))
    numbers = np.column_stack([place_K2, np.where(rng.random(17) < 0.8, 2, 0)]).round(2).ravel().tolist()
    return {"keypoints": numbers, "num_keypoints": sum(flag > 0 for flag in numbers[2::3])}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    """Rows: 0 two people and a green crowd on red, 1 one person, 2 nobody, 3 a validation image."""
    root = tmp_path_factory.mktemp("raw")
    crowd = crowd_entry(3, 1, CROWD_X[0] * HEIGHT, (CROWD_X[1] - CROWD_X[0]) * HEIGHT, SIZE)
    people = [person_entry(number, image, **spread(number)) for number, image in ((1, 1), (2, 1), (4, 2))]
    train = [image_entry(number, size=SIZE) for number in (1, 2, 3)]
    write_annotations(root, "train2017", train, [*people, crowd])
    write_annotations(root, "val2017", [image_entry(9, size=SIZE)], [person_entry(9, 9, **spread(9))])
    image = np.full((HEIGHT, WIDTH, 3), (200, 40, 40), dtype=np.uint8)
    image[:, slice(*CROWD_X)] = (40, 200, 40)
    (root / "coco" / "train2017" / f"{1:012d}.jpg").write_bytes(encode_jpeg(image, 100))
    return prepare_images(root, coco_params(min_people=ALL, longest=180, ignore_unlabelled=False))[0]


def batch_of(
    images: ImageSet, *rows: int, augment: MultiAugment = UPRIGHT, params: MultiParams = PARAMS
) -> Batch:
    row_B, augments = np.array(rows), [augment] * len(rows)
    inputs = image_inputs(images, row_B, params, augments)
    return Batch(inputs, image_targets(images, row_B, params, augments, inputs.affine_B23.numpy()))


def shown(batch: Batch) -> np.ndarray:
    """The first image, (H, W, 3), as integers that can be subtracted."""
    return batch.inputs.images[0][0].numpy().astype(int)


@pytest.mark.parametrize("augment", AUGMENTS.values(), ids=AUGMENTS)
def test_decoding_a_samples_target_gives_the_annotated_joints_in_image_pixels(images, augment):
    batch = batch_of(images, 1, augment=augment)
    joint_cell, score = decode(batch.targets.heatmap_BKhw)
    joint_K2 = transform(invert(batch.inputs.affine_B23[0].numpy()), to_px(joint_cell[0].numpy()))
    shown_K = score[0].numpy() > 0.5
    if augment.flip:
        joint_K2, shown_K = joint_K2[COCO.flip_index], shown_K[COCO.flip_index]
    true_PK2, labelled_PK = images.joints(1)
    assert not (shown_K & ~labelled_PK[0]).any()
    assert shown_K.sum() >= labelled_PK.sum() - 3
    np.testing.assert_allclose(joint_K2[shown_K], true_PK2[0, shown_K], atol=0.01)


@pytest.mark.parametrize("augment", AUGMENTS.values(), ids=AUGMENTS)
def test_the_mask_hides_the_crowd_wherever_the_image_goes(images, augment):
    # Without changes of colour, which would hide red and green.
    augment = MultiAugment(augment.angle, augment.widen, augment.shift, augment.flip)
    assert batch_of(images, 1, augment=augment).targets.mask_Bhw.all()  # an image without a crowd
    batch = batch_of(images, 0, augment=augment)
    mask_hw, affine = batch.targets.mask_Bhw[0].numpy(), batch.inputs.affine_B23[0].numpy()
    cell_hw2 = np.stack(np.meshgrid(np.arange(32.0), np.arange(32.0)), axis=2)
    place_hw2 = transform(invert(affine), to_px(cell_hw2))
    inside_hw = (place_hw2 > -0.5).all(axis=2) & (place_hw2 < np.array(SIZE) - 0.5).all(axis=2)
    in_crowd_hw = (place_hw2[..., 0] > CROWD_X[0] - 0.5) & (place_hw2[..., 0] < CROWD_X[1] - 0.5)
    assert (mask_hw == ~(inside_hw & in_crowd_hw)).mean() > 0.99
    assert (mask_hw == 0).sum() > 30
    # And the image is green there: well within the crowd, and red well within the rest.
    blurred_hw3 = cv2.resize(batch.inputs.images[0][0].numpy(), (32, 32), interpolation=cv2.INTER_AREA)
    kernel = np.ones((3, 3), np.uint8)
    crowd_hw = cv2.erode((mask_hw == 0).astype(np.uint8), kernel).astype(bool)
    rest_hw = cv2.erode((inside_hw & (mask_hw > 0)).astype(np.uint8), kernel).astype(bool)
    assert crowd_hw.sum() > 20
    assert (blurred_hw3[crowd_hw, 1] > 150).all()
    assert (blurred_hw3[rest_hw, 0] > 150).all()


def test_an_image_stands_in_the_middle_of_a_black_square(images):
    batch = batch_of(images, 0)
    corners = transform(batch.inputs.affine_B23[0].numpy(), np.array([[-0.5, -0.5], [199.5, 149.5]]))
    np.testing.assert_allclose(corners, [[-0.5, 15.5], [127.5, 111.5]])
    image_HW3 = shown(batch)
    assert image_HW3[:15].max() == image_HW3[113:].max() == 0
    assert image_HW3[17:111].max(axis=2).min() > 100


def test_a_users_image_is_shown_as_one_of_a_prepared_set(images):
    image_HW3, packed_affine = images.image(0)
    own = letterbox_inputs([image_HW3], PARAMS, scales=(0.5,))
    np.testing.assert_allclose(shown(Batch(own)), shown(batch_of(images, 0)), atol=2)
    assert own.images[1].shape == (1, 64, 64, 3)
    corners = np.array([[-0.5, -0.5], [199.5, 149.5]])
    places = transform(own.affine_B23[0].numpy(), transform(packed_affine, corners))
    np.testing.assert_allclose(places, [[-0.5, 15.5], [127.5, 111.5]], atol=1e-6)


def test_a_large_image_loses_no_pixels_when_it_is_made_small():
    stripes = np.zeros((512, 512, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    own = letterbox_inputs([stripes], PARAMS.model_copy(update={"input_size": 64}), ())
    assert abs(shown(Batch(own)) - 127).max() <= 12  # a warp alone would show some stripes and skip others


def test_an_image_of_one_pixel_can_be_shown():
    own = letterbox_inputs([np.full((1, 1, 3), 90, dtype=np.uint8)], PARAMS, ())
    assert own.images[0].shape == (1, 128, 128, 3)
    np.testing.assert_allclose(transform(own.affine_B23[0].numpy(), np.zeros(2)), [63.5, 63.5])


def test_colours_change_but_not_the_black_around_the_image(images):
    changed = shown(batch_of(images, 0, augment=MultiAugment(brightness=0.3, contrast=0.5, hue=50)))
    assert changed[:15].max() == 0
    assert np.abs(changed - shown(batch_of(images, 0)))[30:100].mean() > 20


def test_shift_moves_by_a_share_of_the_square_shown():
    still, moved = (
        image_affine(np.array(SIZE), 128, MultiAugment(widen=1.2, shift=shift))
        for shift in ((0.0, 0.0), (0.2, -0.1))
    )
    difference = transform(moved, np.zeros(2)) - transform(still, np.zeros(2))
    np.testing.assert_allclose(difference, [-0.2 * 128, 0.1 * 128])


@pytest.mark.parametrize(
    ("size", "scales", "sizes"),
    [(512, (0.5, 1, 2), [256, 1024]), (512, (1.1,), [576]), (640, (0.7,), [448]), (64, (1, 0.9), [])],
)
def test_further_sizes_are_rounded_up_to_what_the_network_takes(size, scales, sizes):
    assert further_sizes(size, scales) == sizes


def test_people_are_padded_to_the_most_of_the_batch(images):
    batch = batch_of(images, 1, 0, 2).to(CPU)
    targets = batch.targets
    assert len(batch) == 3
    assert batch.inputs.image_B3HW.shape == (3, 3, 128, 128)
    assert 0.5 < batch.inputs.image_B3HW.max() <= 1
    assert targets.heatmap_BKhw.shape == (3, 17, 32, 32)
    assert (targets.mask_Bhw.shape, targets.mask_Bhw.dtype) == ((3, 32, 32), torch.float32)
    assert (targets.cell_BPK.shape, targets.cell_BPK.dtype) == ((3, 2, 17), torch.int64)
    assert (targets.cell_BPK[0, 1] == -1).all()
    assert (targets.cell_BPK[2] == -1).all()
    true_PK2, labelled_PK = images.joints(0)
    cell_PK2 = np.round(to_cell(transform(batch.inputs.affine_B23[1].numpy(), true_PK2)))
    expected_PK = np.where(labelled_PK, np.nan_to_num(cell_PK2[..., 1] * 32 + cell_PK2[..., 0]), -1)
    np.testing.assert_array_equal(targets.cell_BPK[1], expected_PK)


def test_joints_that_a_source_lacks_are_flipped_with_the_image(images):
    assert batch_of(images, 0).targets.has_joint_BK is None
    joined = copy.copy(images)
    joined.has_joint_IK = np.ones((len(images), len(COCO)), dtype=bool)
    left, right = (COCO.joints.index(f"{side}_ankle") for side in ("left", "right"))
    joined.has_joint_IK[1, left] = False
    for augment, lacking in ((UPRIGHT, left), (TURNED, right)):
        found = batch_of(joined, 0, 1, augment=augment).targets.has_joint_BK
        assert np.argwhere(found.numpy() == 0).tolist() == [[1, lacking]]


def test_no_more_people_than_asked_have_tags_but_all_have_heatmaps(images):
    few = batch_of(images, 0, params=PARAMS.model_copy(update={"people": 1})).targets
    everyone = batch_of(images, 0).targets
    assert (few.cell_BPK.shape[1], everyone.cell_BPK.shape[1]) == (1, 2)
    assert torch.equal(few.heatmap_BKhw, everyone.heatmap_BKhw)


def test_a_batch_without_people_has_room_for_one(images):
    assert batch_of(images, 2).targets.cell_BPK.tolist() == [[[-1] * 17]]
    beside = batch_of(images, 1, augment=MultiAugment(shift=(3.0, 0.0)))  # the person is outside the square
    assert beside.targets.cell_BPK.tolist() == [[[-1] * 17]]
    assert not beside.targets.heatmap_BKhw.any()
    assert not shown(beside).any()


def test_without_a_seed_images_are_unaltered_at_every_scale(images):
    batch = ImageDataset(images, images.rows("train"), PARAMS, scales=(0.5, 2)).__getitems__([(0, 0)])
    assert batch.targets is None
    assert [image.shape[1] for image in batch.inputs.images] == [128, 64, 256]
    np.testing.assert_array_equal(shown(batch), shown(batch_of(images, 0)))
    np.testing.assert_allclose(batch.inputs.affine_B23[0], image_affine(np.array(SIZE), 128))
