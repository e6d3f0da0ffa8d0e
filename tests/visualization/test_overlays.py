"""Images with their predictions drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from check_figures import assert_figure
from supertickets import Ticket, UserError
from supertickets.visualization.overlays import predictions


def test_predictions_are_written_beside_their_images(ticket: Ticket, tmp_path: Path) -> None:
    names = []
    for name, size, mode in (("small", (8, 8), "L"), ("large", (500, 300), "RGB"), ("wide", (40, 10), "RGBA")):
        names.append(tmp_path / f"{name}.png")
        Image.new(mode, size, "white").save(names[-1])
    results = list(predictions(ticket, names, save=tmp_path / "new" / "folder"))
    assert [path for path, _ in results] == names
    written = sorted((tmp_path / "new" / "folder").iterdir())
    assert [path.name for path in written] == ["large.png", "small.png", "wide.png"]
    for path in written:
        assert_figure(path, (160, 80), (600, 400))


def test_images_of_one_name_do_not_overwrite_each_other(ticket: Ticket, tmp_path: Path) -> None:
    names = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        names.append(tmp_path / folder / "digit.png")
        Image.new("L", (8, 8)).save(names[-1])
    list(predictions(ticket, names, save=tmp_path / "out"))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["digit-2.png", "digit.png"]


def test_images_are_predicted_and_written_one_by_one(ticket: Ticket, tmp_path: Path) -> None:
    """The images before and behind a broken one are written, each when it is its turn."""
    names = [tmp_path / f"{name}.png" for name in ("a", "b", "c")]
    for path in names:
        Image.new("L", (8, 8), 90).save(path)
    names[1].write_bytes(names[1].read_bytes()[:50])
    written = []
    for path, result in predictions(ticket, names, save=tmp_path / "out"):
        if path == names[1]:
            assert isinstance(result, UserError)
            assert str(path) in str(result)
        else:
            assert isinstance(result, dict)
            assert [(row["name"], row["probability"]) for row in result["classes"]] == ticket.predict([path])[0]
        written.append(sorted(path.name for path in (tmp_path / "out").iterdir()))
    assert written == [["a.png"], ["a.png"], ["a.png", "c.png"]]


def test_deep_and_transparent_images_are_shown_as_they_are_read(ticket: Ticket, tmp_path: Path) -> None:
    deep = Image.fromarray(np.full((8, 8), 40 * 257, np.uint16))
    glass = Image.new("RGBA", (8, 8), (10, 20, 30, 0))
    for i, (image, colour) in enumerate(((deep, (40, 40, 40)), (glass, (255, 255, 255)))):
        image.save(tmp_path / f"{i}.png")
        list(predictions(ticket, [tmp_path / f"{i}.png"], save=tmp_path / "out"))
        with Image.open(tmp_path / "out" / f"{i}.png") as page:
            assert page.getpixel((0, 0)) == colour
