"""Regions around people: points there and back, pixels where the matrix says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from supertickets.data import geometry as regions

coordinate = st.floats(-500, 500, allow_nan=False)
length = st.floats(5, 800)


@pytest.mark.parametrize(
    ("box", "size"),
    [((10, 20, 30, 40), (37.5, 50)), ((10, 20, 60, 40), (75, 100)), ((10, 20, 3, 40), (37.5, 50))],
)
def test_a_region_holds_its_box_in_the_shape_of_the_input(box: regions.Box, size: tuple[float, float]) -> None:
    center, region_size = regions.box_region(box, (256, 192))
    assert center.tolist() == [box[0] + (box[2] - 1) / 2, box[1] + (box[3] - 1) / 2]
    assert region_size.tolist() == pytest.approx(size)


def test_the_box_of_a_whole_image_is_the_image() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 6)).astype(np.uint8)
    center, size = regions.box_region((0, 0, 6, 8), (8, 6), enlarge=1)
    matrix = regions.region_matrix(center, size, 0, (8, 6))
    assert np.array_equal(np.asarray(regions.warp_image(Image.fromarray(pixels), matrix, (8, 6))), pixels)


def test_corners_of_a_region_go_to_the_borders_of_the_input() -> None:
    matrix = regions.region_matrix((50, 60), (30, 40), 0, (256, 192))
    corners = regions.transform(np.array([[35.0, 40], [65, 80], [50, 60]]), matrix)
    # The border of the first column is half a pixel left of its centre.
    assert corners == pytest.approx(np.array([[-0.5, -0.5], [191.5, 255.5], [95.5, 127.5]]))


def test_a_region_turns_clockwise() -> None:
    matrix = regions.region_matrix((50, 60), (40, 40), 90, (40, 40))
    right_of_it = regions.transform(np.array([[60.0, 60]]), matrix)
    assert right_of_it == pytest.approx(np.array([[19.5, 29.5]]))


@settings(deadline=None)
@given(coordinate, coordinate, length, length, st.floats(-180, 180), coordinate, coordinate)
def test_points_go_there_and_back(
    cx: float, cy: float, width: float, height: float, angle: float, x: float, y: float
) -> None:
    matrix = regions.region_matrix((cx, cy), (width, height), angle, (256, 192))
    points = np.array([[x, y], [cx, cy]])
    there = regions.transform(points, matrix)
    assert there[1] == pytest.approx([95.5, 127.5], abs=1e-6)
    assert regions.transform(there, regions.inverse(matrix)) == pytest.approx(points, abs=1e-6)
    cells = (there + 0.5) / 4 - 0.5
    assert regions.to_image_points(cells, matrix, 4) == pytest.approx(points, abs=1e-6)


def test_a_batch_of_matrices() -> None:
    matrices = np.stack([regions.region_matrix((50, 60), (30, 40), angle, (64, 48)) for angle in (0, 20)])
    points = np.random.default_rng(0).uniform(0, 99, (2, 5, 2))
    batch = regions.to_image_points(points, matrices, 4)
    assert batch == pytest.approx(
        np.stack([regions.to_image_points(p, m, 4) for p, m in zip(points, matrices, strict=True)])
    )


@pytest.mark.parametrize("turns", range(4))
def test_a_crop_is_the_region_of_its_matrix(turns: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 9, 3)).astype(np.uint8)
    # A region of whole pixels, turned by right angles, is these pixels.
    matrix = regions.region_matrix((3.5, 4.5), (4, 4), 90 * turns, (4, 4))
    warped = np.asarray(regions.warp_image(Image.fromarray(pixels), matrix, (4, 4))).astype(int)
    # Pillow rounds down, so that the smallest error of the angle may cost 1.
    assert np.abs(warped - np.rot90(pixels[3:7, 2:6], -turns)).max() <= 1


def test_a_bright_spot_is_where_its_point_goes() -> None:
    y, x = np.mgrid[0:120, 0:160]
    spot = 255 * np.exp(-((x - 70) ** 2 + (y - 50) ** 2) / 50)
    matrix = regions.region_matrix((60, 55), (60, 80), 25, (128, 96))
    warped = np.asarray(regions.warp_image(Image.fromarray(spot.astype(np.uint8)), matrix, (128, 96))).astype(float)
    rows, columns = np.mgrid[0:128, 0:96]
    middle = [(columns * warped).sum() / warped.sum(), (rows * warped).sum() / warped.sum()]
    assert middle == pytest.approx(regions.transform(np.array([[70.0, 50]]), matrix)[0], abs=0.1)


@pytest.mark.parametrize("factor", [1.5, 2.0, 3.2, 7.0])
def test_an_image_made_much_smaller_stays_in_place(factor: float) -> None:
    y, x = np.mgrid[0:480, 0:640]
    spot = 255 * np.exp(-((x - 300) ** 2 + (y - 210) ** 2) / 2 / 40**2)
    matrix = regions.region_matrix((310, 220), (96 * factor, 128 * factor), 15, (128, 96))
    warped = np.asarray(regions.warp_image(Image.fromarray(spot.astype(np.uint8)), matrix, (128, 96))).astype(float)
    warped[warped < 128] = 0  # what is left is round, wherever the input ends
    rows, columns = np.mgrid[0:128, 0:96]
    middle = [(columns * warped).sum() / warped.sum(), (rows * warped).sum() / warped.sum()]
    assert middle == pytest.approx(regions.transform(np.array([[300.0, 210]]), matrix)[0], abs=0.15)


def test_an_image_made_much_smaller_is_averaged() -> None:
    stripes = np.zeros((80, 80), np.uint8)
    stripes[:, ::4] = 200  # a quarter of the columns
    matrix = regions.region_matrix((39.5, 39.5), (80, 80), 0, (20, 20))
    assert set(np.asarray(regions.warp_image(Image.fromarray(stripes), matrix, (20, 20))).flat) <= {49, 50}


def test_shares_end_at_the_borders() -> None:
    unit_points = regions.to_unit_square(np.array([[-0.5, -0.5, 2], [191.5, 255.5, 1], [95.5, 63.5, 0]]), (256, 192))
    assert unit_points.dtype == np.float32
    assert unit_points.tolist() == [[0, 0, 2], [1, 1, 1], [0.5, 0.25, 0]]


def test_outside_the_image_is_black() -> None:
    matrix = regions.region_matrix((-0.5, 4.5), (10, 10), 0, (10, 10))
    warped = np.asarray(regions.warp_image(Image.new("L", (10, 10), 200), matrix, (10, 10)))
    assert set(warped[:, :5].flat) == {0}
    assert set(warped[:, 5:].flat) == {200}
