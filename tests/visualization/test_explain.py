"""Pages that show where classifiers look, and the command that writes them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cli_outcome import Cli
from supertickets import Ticket, UserError
from supertickets.visualization.explain import Explanation, compose_page, explain, explain_images, heatmap_overlay
from supertickets.visualization.grad_cam import grad_cam

GREY = Image.new("RGB", (80, 40), (120, 120, 120))


@pytest.fixture
def digits(tmp_path: Path) -> list[Path]:
    generator = np.random.default_rng(0)
    paths = [tmp_path / f"{name}.png" for name in ("a", "b")]
    for path, size in zip(paths, ((8, 8), (30, 60)), strict=True):
        Image.fromarray(generator.integers(0, 256, size).astype(np.uint8)).save(path)
    return paths


def test_regions_that_support_a_class_are_red_and_others_blue() -> None:
    shown = np.asarray(heatmap_overlay(GREY, np.array([[0, 0.002], [0, 0.002]], np.float32))).astype(int)
    assert shown.shape == (40, 80, 3)
    red, blue = shown[:, -1], shown[:, 0]
    assert (red[:, 0] > red[:, 2] + 50).all()
    assert (blue[:, 2] > blue[:, 0] + 50).all()
    assert (np.diff(shown[20, :, 2]) <= 0)[50:].all()  # and it changes in between
    nothing = np.asarray(heatmap_overlay(GREY, np.zeros((2, 2), np.float32)))
    assert (nothing == blue[0]).all()


def test_a_page_has_a_column_for_each_ticket() -> None:
    one = Explanation("a", "a network", "cat", 0.5, "dog", GREY.resize((280, 140)), np.eye(2, dtype=np.float32))
    pages = [compose_page(GREY, [one] * number) for number in (1, 2, 3)]
    assert [sheet.width for sheet in pages] == [14 + number * (280 + 14) for number in (2, 3, 4)]
    assert {sheet.height for sheet in pages} == {140 + 14 + 77}
    tile = np.asarray(heatmap_overlay(one.image, one.heat))
    for left in (14 + 280 + 14, 14 + 2 * (280 + 14)):
        assert np.array_equal(np.asarray(pages[1])[77 : 77 + 140, left : left + 280], tile)
    tall = compose_page(GREY.resize((10, 400)), [one])  # columns are as wide as what is written above them
    assert tall.width > 2 * 150


@pytest.mark.long
def test_an_explanation_holds_prediction_and_heatmap(ticket: Ticket, digits: list[Path]) -> None:
    for path in digits:
        with Image.open(path) as image:
            explanation = explain("a", ticket, ticket.module, image)
            other = explain("a", ticket, ticket.module, image, "7")
            said = dict(ticket.predict([image])[0])
        scores, heat = grad_cam(ticket.module, ticket.prepare(path), 7)
        assert (explanation.name, explanation.predicted) == (next(iter(said)), next(iter(said)))
        assert explanation.probability == pytest.approx(said[explanation.name], rel=1e-5)
        assert (other.name, other.predicted) == ("7", explanation.predicted)
        assert other.probability == pytest.approx(float(scores.softmax(0)[7]), rel=1e-5)
        assert np.array_equal(other.heat, heat.numpy())
        assert "branches" in explanation.network
    assert explanation.image.size == (280, 140)


def test_only_what_the_network_saw_is_under_the_map(ticket: Ticket) -> None:
    wide = Image.new("L", (300, 100), 0)
    wide.paste(255, (100, 0, 200, 100))
    cropping = replace(ticket, preprocessing=replace(ticket.preprocessing, fit="crop"))
    assert np.asarray(explain("a", cropping, ticket.module, wide).image)[:, 5:-5].min() > 250
    assert np.asarray(explain("a", ticket, ticket.module, wide).image).min() == 0


def test_other_tasks_and_classes_are_refused(ticket: Ticket, tmp_path: Path, digits: list[Path]) -> None:
    def error_of(other: Ticket, name: str | None = None) -> str:
        with pytest.raises(UserError) as error:
            list(explain_images([("x", ticket), ("y", other)], digits, tmp_path / "out", name))
        return str(error.value)

    scenes = replace(ticket, about={"recipe": {"task": "segmentation"}})
    assert "ticket y is for segmentation; explain takes tickets that name a class" in error_of(scenes)
    assert "ticket y has no class '3'; did you mean '33'" in error_of(
        replace(ticket, classes=("33", "44", *"56789abc")), "3"
    )
    assert not (tmp_path / "out").exists()


OWN = """
from supertickets.tasks import Classification

class Flags(Classification):  # every class by itself
    def class_probabilities(self, scores):
        return scores.sigmoid()

class Unlikely(Classification):  # the class with the lowest score is the most likely one
    def class_probabilities(self, scores):
        return (-scores).softmax(0)

class Rank(Classification):
    explainable = False
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module with tasks of a user."""
    (tmp_path / "explained_tasks.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "explained_tasks"


@pytest.mark.parametrize("name", ["Flags", "Unlikely"])
def test_a_task_of_ones_own_is_explained_by_its_own_probabilities(
    ticket: Ticket, digits: list[Path], own: str, name: str
) -> None:
    mine = replace(ticket, about={"recipe": {"task": f"{own}:{name}"}})
    with Image.open(digits[0]) as image:
        explanation, said = explain("a", mine, mine.module, image), mine.predict(image)
    scores, heat = grad_cam(mine.module, mine.prepare(digits[0]), mine.classes.index(said[0][0]))
    assert (explanation.name, explanation.predicted) == (said[0][0], said[0][0])
    assert explanation.probability == pytest.approx(said[0][1], rel=1e-5)
    assert explanation.probability != pytest.approx(float(scores.softmax(0).max()), rel=1e-3)
    assert np.array_equal(explanation.heat, heat.numpy())


def test_a_task_of_ones_own_that_names_no_class_is_refused(
    ticket: Ticket, digits: list[Path], own: str, tmp_path: Path
) -> None:
    mine = replace(ticket, about={"recipe": {"task": f"{own}:Rank"}})
    with pytest.raises(UserError, match=f"ticket x is for {own}:Rank; explain takes tickets that name a class"):
        list(explain_images([("x", mine)], digits, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.long
def test_the_command(cli: Cli, toy_run: Path, quick_run: Path, digits: list[Path], tmp_path: Path) -> None:
    words = ("explain", toy_run, *digits, "--beside", quick_run, toy_run / "ticket", "--save", tmp_path / "new" / "out")
    outcome = cli(*words, "--json")
    assert (outcome.status, outcome.err) == (0, "")
    rows = json.loads(outcome.out)
    assert [row["image"] for row in rows] == list(map(str, digits))
    for row in rows:
        assert row["file"] == str(tmp_path / "new" / "out" / Path(row["image"]).name)
        assert [one["ticket"] for one in row["explained"]] == [str(toy_run), str(quick_run), str(toy_run / "ticket")]
        first, _, again = row["explained"]
        assert set(first) == {"ticket", "network", "class", "probability", "predicted"}
        assert again == first | {"ticket": str(toy_run / "ticket")}
        with Image.open(row["file"]) as shown:
            assert shown.format == "PNG"
            assert shown.width >= 4 * 140
    said = json.loads(cli("predict", toy_run, *digits, "--json").out)
    for row, one in zip(rows, said, strict=True):
        best = one["classes"][0]
        assert row["explained"][0]["class"] == best["name"]
        assert row["explained"][0]["probability"] == pytest.approx(best["probability"], rel=1e-5)
    text = cli(*words, "--class", "7", "--device", "cpu").out.splitlines()
    assert [line.split(": ")[0] for line in text] == list(map(str, digits))
    assert all(": 7 " in line and str(toy_run) in line for line in text)


def test_the_command_passes_over_what_it_cannot_read(
    cli: Cli, toy_run: Path, digits: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "0.png").write_bytes(digits[0].read_bytes()[:40])
    outcome = cli("explain", toy_run, tmp_path)
    assert outcome.status == 2
    assert outcome.err.startswith(f"error: {tmp_path / '0.png'} is not a readable image")
    assert sorted(path.name for path in (tmp_path / "explained").iterdir()) == ["a.png", "b.png"]
