"""Damaged and odd files of every kind are read or refused in one line; what fuzzing has found stays mended."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import fuzz
from fuzz_data import Parser, file_parser
from fuzz_mutators import YAML_ODD, damage_bytes, disturb
from fuzz_parsers import PARSERS, run_files, small_specs, small_ticket
from supertickets import Ticket, UserError
from supertickets.config.loading import load_recipe
from supertickets.cost.latency_table import LatencyTable
from supertickets.models.factory import build_bounded, spec_from_json
from supertickets.report import write_report
from supertickets.runs.execution import read_record
from supertickets.storage import parse_json
from supertickets.sweeps.sweep import read_sweep

_COUNTS = {"report": 3, "yolo": 15, "latency": 10, "ticket": 12, "images": 60}  # of the dear ones


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", PARSERS)
def test_damaged_files(name: str, tmp_path: Path) -> None:
    parser = PARSERS[name]()
    outcomes = [
        fuzz.read_input(parser, fuzz.write_input(parser, tmp_path, 1, number))
        for number in range(_COUNTS.get(name, 100))
    ]
    assert [text for end, text in outcomes if end == "fault"] == []
    assert "refused" in Counter(end for end, _ in outcomes)


# What notices faults -------------------------------------------------------------------------------------------------


def _hang(_: Path) -> None:
    while True:
        pass


def _write_outside(path: Path) -> None:
    (path.parents[1] / "outside").write_text("x")


class _OfTwoLines(UserError):
    """An error that does not spell its line breaks out, as every other one does."""

    __str__ = ValueError.__str__


def _several_lines(_: Path) -> None:
    raise _OfTwoLines("one\ntwo")


def _long_message(_: Path) -> None:
    raise UserError("x" * 20_001)


@pytest.mark.parametrize(
    ("read", "named"),
    [
        (lambda path: os.kill(os.getpid(), signal.SIGKILL), "input 7: the process ended: SIGKILL"),
        (_hang, "input 7: the process ended: more than 0.2 s"),
        (_write_outside, "outside"),
        (_several_lines, "input 7: a message of 2 lines"),
        (_long_message, "input 7: a message of 1 lines, 20001 characters"),
        (lambda path: {}["x"], "input 7: .*KeyError"),
        (lambda path: bytes(3 * 10**9), "input 7: .*MemoryError"),
    ],
)
def test_faults_are_noticed(read: Callable[[Path], Any], named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz, "SECONDS", 0.2)

    def write(source: random.Random, folder: Path) -> Path:
        (folder / "number").write_text(str(source.random()))
        return folder / "number"

    parser = Parser("x", write, read)
    (first, *_) = fuzz.fuzz(parser, 0, 7, 1).faults
    assert re.search(named, first)


def test_whole_files_are_counted_as_read() -> None:
    tally = fuzz.fuzz(file_parser("x", "a", lambda source: b"", lambda path: time.process_time()), 0, 0, 5)
    assert (tally.inputs, tally.read, tally.refused, tally.faults) == (5, 5, 0, [])


def test_damage_is_made_again_by_its_number() -> None:
    made = [(damage_bytes(s, bytes(50)), disturb(s, {"a": [1, 2]})) for s in (random.Random(3), random.Random(3))]
    assert repr(made[0]) == repr(made[1])


# What was found ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [*YAML_ODD, "epochs: " + "9" * 400, "epochs: 2001-99-99"])
@pytest.mark.parametrize("read", [lambda path: load_recipe(str(path)), read_sweep])
def test_odd_yaml(text: str, read: Callable[[Path], object], tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        read(path)
    assert len(str(error.value).splitlines()) == 1


def test_repeated_anchors_are_counted_where_they_stand(tmp_path: Path) -> None:
    """Two lines of a thousand names each are 10^6 lists; ten lines of nine are 9^10."""
    path = tmp_path / "a.yaml"
    rows = [("a", "x"), ("b", "*a"), ("c", "*b")]
    path.write_text("".join(f"{name}: &{name} [{', '.join([of] * 1000)}]\n" for name, of in rows))
    with pytest.raises(UserError, match="holds more than 1,000,000 values"):
        load_recipe(str(path))
    path.write_text("a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 11)))
    with pytest.raises(UserError, match="holds more than 1,000,000 values"):
        load_recipe(str(path))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[" * 65 + "]" * 65, "too deep"),
        ("[" * 10**5, "too deep"),
        (f"[{'1' * 21}]", "whole number of 21 digits"),
    ],
)
def test_json_beyond_bounds(text: str, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        parse_json(text)
    assert parse_json("[" * 60 + "1" + "]" * 60)


def _folder_of(ticket: Ticket, folder: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    ticket.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda c: c["spec"].update(widths=[2**40, 4, 4]), "a size of 1099511627776"),
        (lambda c: c["spec"].update(blocks=[500_000, 1, 1]), "more layers than the file has weights"),
        (lambda c: c["preprocessing"].update(size=[10**6, 10**6]), "input of 1000000 x 1000000"),
        (lambda c: c["preprocessing"].update(size=["8", 8]), "no whole number"),
        (lambda c: c["preprocessing"].update(std=[0.0]), "out of range"),
        (lambda c: c["preprocessing"].update(mean=[float("nan")]), "no number"),
    ],
)
def test_claims_of_tickets(change: Callable[[dict[str, Any]], Any], named: str, tmp_path: Path) -> None:
    begin = time.process_time()
    with pytest.raises(UserError, match=named):
        Ticket.from_pretrained(_folder_of(small_ticket(small_specs()[0]), tmp_path / "ticket", change))
    assert time.process_time() - begin < 5


def test_connections_to_no_attention(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a network without attention has connected blocks"):
        Ticket.from_pretrained(
            _folder_of(small_ticket(small_specs()[2]), tmp_path / "ticket", lambda c: c["spec"].update(attention=None))
        )


def test_weights_of_other_types_and_masks_of_others(tmp_path: Path) -> None:
    ticket = small_ticket(small_specs()[0])
    name = next(iter(ticket.mask))
    for weights, mask in (
        ({**ticket.weights, name: ticket.weights[name].to(torch.int8)}, ticket.mask),
        (ticket.weights, {name: ticket.mask[name].to(torch.uint8)}),
        (ticket.weights, {name: ticket.mask[name][:1]}),
        (ticket.weights, {"x": ticket.mask[name]}),
    ):
        other = Ticket(ticket.spec, weights, mask, ticket.classes, ticket.preprocessing, ticket.about)
        with pytest.raises(UserError, match="another network"):
            _save_unchecked(other, ticket, tmp_path / "ticket")


def _save_unchecked(ticket: Ticket, like: Ticket, folder: Path) -> Ticket:
    """Save tensors beside what is said of a ticket that is whole, and load."""
    ticket.__dict__["cost"] = like.cost
    ticket.save_pretrained(folder)
    return Ticket.from_pretrained(folder)


def test_networks_as_large_as_their_files_are_built() -> None:
    for spec in small_specs():
        assert len(build_bounded(spec, len(spec.build().state_dict())).state_dict()) > 10


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"test": {"loss": 0.5, "top1": "ninety"}}, "test_top1"),
        ({"test": {"loss": 0.5, "top1": None}}, "test_top1"),
        ({"sparsity": None}, "sparsity"),
        ({"macs": None}, "macs"),
    ],
)
def test_results_that_are_no_numbers(change: dict[str, Any], named: str, tmp_path: Path) -> None:
    files = run_files()
    files["result.json"] |= change
    for name in ("run.json", "result.json"):
        (tmp_path / name).write_text(json.dumps(files[name]))
    with pytest.raises(UserError, match=f"{named} is no number"):
        write_report([tmp_path])


def test_a_report_shows_names_that_no_file_can_hold(tmp_path: Path) -> None:
    """JSON can name half of a character: ``\\ud800``."""
    files = run_files()
    files["run.json"]["recipe"]["task"] = "\ud800"
    for name in ("run.json", "result.json"):
        (tmp_path / name).write_text(json.dumps(files[name]))
    write_report([tmp_path])
    assert "\\ud800" in (tmp_path / "report" / "report.md").read_text()


@pytest.mark.parametrize("epochs", [100_001, 10**9, 10**18])
def test_sweeps_of_more_epochs_than_anyone_trains(epochs: int, tmp_path: Path) -> None:
    """Draws of a sweep are compared epoch by epoch, by the pruning after each."""
    path = tmp_path / "a.yaml"
    path.write_text(f"recipe: digits\nratios: [0.5, 0.6]\nsettings: {{epochs: {epochs}}}\nmethods: {{a: {{}}}}\n")
    begin = time.process_time()
    with pytest.raises(UserError, match=f"epochs={epochs} is out of range; use a value from 0 to 100000"):
        read_sweep(path)
    path.write_text(path.read_text().replace(str(epochs), "100000"))
    assert len(read_sweep(path).points) == 2
    assert time.process_time() - begin < 10


@pytest.mark.parametrize("text", ["[" * 10**5, "[]", '{"format_version": 2, "recipe": []}'])
def test_records_of_other_shapes(text: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(UserError, match=r"run\.json"):
        read_record(tmp_path, ())


@pytest.mark.parametrize("text", ["[" * 10**5, "[]", '{"spec": {}}'])
def test_latency_tables_of_other_shapes(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UserError, match="no latency table"):
        LatencyTable.load(tmp_path / "a.json")


def test_sizes_are_checked_before_anything_is_made() -> None:
    data = small_specs()[0].to_json()
    assert spec_from_json(data) == small_specs()[0]
    with pytest.raises(UserError, match="a size of"):
        spec_from_json(data | {"num_classes": 2**30})
