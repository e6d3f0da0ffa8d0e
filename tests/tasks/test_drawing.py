"""Predictions drawn into images: the pixels that must have changed, and those that must not."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from supertickets.tasks import drawing

JOINTS = ("nose", "left_eye", "right_eye"), ((0, 1), (0, 2), (1, 2))


def test_a_painted_scene_has_the_colours_of_its_classes_and_a_legend() -> None:
    mask = np.zeros((40, 80), np.uint8)
    mask[20:] = 2
    page = np.asarray(drawing.draw_classes(Image.new("RGB", (80, 40)), mask, ("sky", "tree", "road")))
    scene, legend = page[:160, :320], page[:, 320:]
    assert len(np.unique(scene.reshape(-1, 3), axis=0)) == 2
    assert (scene[:80] == scene[0, 0]).all()
    solid = np.unique(legend[8:22, 10:24].reshape(-1, 3), axis=0)
    assert len(solid) == 1
    assert np.abs(solid[0] * 0.55 - scene[0, 0]).max() <= 1  # over black
    assert drawing.mask_shares(mask, ("sky", "tree", "road")) == [("sky", 0.5), ("road", 0.5)]


def test_a_caption_is_as_wide_as_its_text_and_has_all_letters() -> None:
    short = drawing.add_caption(Image.new("RGB", (64, 64)), "cat")
    long = drawing.add_caption(Image.new("RGB", (64, 64)), "Madagascar hissing cockroach (female)  98.3%")
    assert short.width == 192  # the image, three times as large
    assert long.width > short.width
    assert (np.asarray(long)[:, -6:] == 255).all()
    one, other = (np.asarray(drawing.add_caption(Image.new("RGB", (64, 64)), text)) for text in ("é", "л"))
    assert not np.array_equal(one, other)  # else both would be the box of what is missing


def test_heat_covers_the_places_that_are_counted() -> None:
    density = np.zeros((2, 2), np.float32)
    density[0, 0] = 1
    pixels = np.asarray(drawing.draw_density(Image.new("RGB", (40, 40)), density))
    assert pixels[0, 0].tolist() == [210, 185, 49]  # 210 of 255 of the hottest colour, over black
    assert pixels[-1, -1].tolist() == [0, 0, 0]


def test_boxes_are_drawn_with_their_classes() -> None:
    image = Image.new("L", (200, 120), 128)
    drawn = drawing.draw_boxes(image, [("cat", 0.9, (20.0, 40.0, 80.0, 60.0))], {"cat": (255, 0, 0)})
    pixels = np.asarray(drawn)
    assert drawn.size == image.size
    assert pixels[100, 60].tolist() == pixels[60, 20].tolist() == [255, 0, 0]
    assert pixels[70, 60].tolist() == [128, 128, 128]
    assert (pixels[25:40, 20:60] == [255, 0, 0]).all(-1).mean() > 0.2  # the label, above
    assert (np.asarray(drawing.draw_boxes(image, [], {})) == 128).all()


def test_limbs_are_drawn_by_side() -> None:
    image = Image.new("L", (120, 100), 128)
    person = np.array([[60, 20, 0.9], [100, 80, 0.8], [20, 80, 0.3]])
    drawn = drawing.draw_skeletons(image, [person], *JOINTS, 0.2)
    assert (drawn.mode, drawn.size) == ("RGB", (120, 100))
    assert image.getextrema() == (128, 128)
    seen = [drawn.getpixel(place) for place in ((80, 50), (40, 50), (60, 80), (5, 5))]
    assert seen == [drawing._LEFT, drawing._RIGHT, drawing._MIDDLE, (128, 128, 128)]


def test_joints_that_score_low_are_not_drawn() -> None:
    image = Image.new("RGB", (120, 100), (128, 128, 128))
    people = [np.array([[60, 20, 0.9], [100, 80, 0.1], [math.nan, 80, 0.3]])]
    drawn = drawing.draw_skeletons(image, people, *JOINTS, 0.2)
    assert drawn.getpixel((60, 20)) == drawing._MIDDLE
    assert drawn.getpixel((80, 50)) == drawn.getpixel((100, 80)) == (128, 128, 128)
    assert np.array_equal(np.asarray(drawing.draw_skeletons(image, [], *JOINTS, 0.2)), np.asarray(image))
