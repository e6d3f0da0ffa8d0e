"""Images with their predictions drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from figure_checks import assert_figure
from supertickets import Ticket, UserError
from supertickets.visualization.overlays import draw_prediction, format_prediction, pixel_shares, predictions


def test_predictions_are_written_beside_their_figures(ticket: Ticket, tmp_path: Path) -> None:
    names = []
    for name, size, mode in (("small", (8, 8), "L"), ("large", (500, 300), "RGB"), ("wide", (40, 10), "RGBA")):
        names.append(tmp_path / f"{name}.png")
        Image.new(mode, size, "white").save(names[-1])
    found = list(predictions(ticket, names, save=tmp_path / "new" / "folder"))
    assert [path for path, _ in found] == names
    written = sorted((tmp_path / "new" / "folder").iterdir())
    assert [path.name for path in written] == ["large.png", "small.png", "wide.png"]
    for path in written:
        assert_figure(path, (160, 80), (600, 400))


def test_figures_of_one_name_do_not_overwrite_each_other(ticket: Ticket, tmp_path: Path) -> None:
    names = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        names.append(tmp_path / folder / "digit.png")
        Image.new("L", (8, 8)).save(names[-1])
    list(predictions(ticket, names, save=tmp_path / "out"))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["digit-2.png", "digit.png"]


def test_figures_are_predicted_and_written_one_by_one(ticket: Ticket, tmp_path: Path) -> None:
    """What was read before and behind a broken figure is written, each when it is its turn."""
    names = [tmp_path / f"{name}.png" for name in ("a", "b", "c")]
    for path in names:
        Image.new("L", (8, 8), 90).save(path)
    names[1].write_bytes(names[1].read_bytes()[:50])
    written = []
    for path, said in predictions(ticket, names, save=tmp_path / "out"):
        if path == names[1]:
            assert isinstance(said, UserError)
            assert str(path) in str(said)
        else:
            assert isinstance(said, dict)
            assert [(row["name"], row["probability"]) for row in said["classes"]] == ticket.predict([path])[0]
        written.append(sorted(path.name for path in (tmp_path / "out").iterdir()))
    assert written == [["a.png"], ["a.png"], ["a.png", "c.png"]]


def test_deep_and_transparent_figures_are_shown_as_they_are_read(ticket: Ticket) -> None:
    deep = Image.fromarray(np.full((8, 8), 40 * 257, np.uint16))
    glass = Image.new("RGBA", (8, 8), (10, 20, 30, 0))
    for figure, colour in ((deep, (40, 40, 40)), (glass, (255, 255, 255))):
        page = format_prediction(ticket, figure, [("seven", 0.93)])
        assert page.getpixel((0, 0)) == colour


def test_a_painted_scene_has_the_colours_of_its_classes_and_a_legend() -> None:
    mask = np.zeros((40, 80), np.uint8)
    mask[20:] = 2
    page = np.asarray(draw_prediction(Image.new("RGB", (80, 40)), mask, ("sky", "tree", "road")))
    scene, legend = page[:160, :320], page[:, 320:]
    assert len(np.unique(scene.reshape(-1, 3), axis=0)) == 2
    assert (scene[:80] == scene[0, 0]).all()
    solid = np.unique(legend[8:22, 10:24].reshape(-1, 3), axis=0)
    assert len(solid) == 1
    assert np.abs(solid[0] * 0.55 - scene[0, 0]).max() <= 1  # over black
    assert pixel_shares(mask, ("sky", "tree", "road")) == [("sky", 0.5), ("road", 0.5)]
