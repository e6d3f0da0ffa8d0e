"""Three trainings on two-digit numbers: a wide network, a ticket drawn from it, and what one would pick instead.

Run it with ``make demo``; everything it makes is in ``runs/demo``.
"""

import contextlib
import dataclasses
import multiprocessing
import shutil
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.table import Table

import supertickets as st
from supertickets.config.loading import load_recipe, override_settings
from supertickets.data import load_splits
from supertickets.deploy import Bench, BenchSettings, bench, export
from supertickets.deploy.runtimes import installed_runtimes
from supertickets.visualization.predictions_row import draw_predictions
from supertickets.visualization.run_overview import draw_run_overview

OUT = Path("runs/demo")
DENSE = ["--supernet.init", "family"]  # initial weights that dense networks are better with
NARROW = [*DENSE, "--supernet.settings.width", "18"]  # as fast as the ticket
NAMES = ("wide, dense", "ticket", "narrow, dense")


def main() -> None:
    console = Console(highlight=False)
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    recipe = dataclasses.replace(load_recipe("numbers", sys.argv[1:]), threads=1)
    begin = time.perf_counter()

    console.print(
        f"\n[bold]1. Two dense networks[/], a wide and a narrow one, in another process (see {OUT}/dense.log)"
    )
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as other_core:
        waiting = other_core.submit(train_dense, recipe)
        console.print("\n[bold]2. A ticket[/]: the wide network, pruned while it trains")
        ticket = st.draw(recipe, OUT / "ticket-run", verbose=True)
        waiting.result()
    tickets = dict(zip(NAMES, (st.load(OUT / "wide"), ticket, st.load(OUT / "narrow")), strict=True))
    trained = time.perf_counter() - begin

    console.print("\n[bold]3. Side by side[/]")
    made = export(ticket, OUT / "ticket.onnx")
    sparse = export(ticket, OUT / "ticket.sparse", "sparse")
    measured = bench(tickets, BenchSettings(runtimes=installed_runtimes(exact=True)))
    console.print(comparison(tickets, measured))
    console.print(f"latency: one image, one thread, {measured.device}; training took {trained:.0f} s")
    console.print(verdict(tickets, measured))
    console.print("supertickets compare tells whether a ticket is worth it for images of yours.")
    show_numbers(console, recipe, ticket)

    console.print("\n[bold]5. What you have now[/]")
    for what, path in (
        ("the ticket", OUT / "ticket-run" / "ticket"),
        (f"its ONNX file (within {made.parity:.0e} of the ticket)", made.path),
        ("its file for the sparse runtime, which needs numpy alone", sparse.path),
        ("a figure of the run", draw_run_overview(OUT / "ticket-run", ticket)),
        ("the ten numbers", OUT / "numbers.png"),
    ):
        console.print(f"  {path}  {what}")
    console.print(
        "\nNext: .venv/bin/supertickets show runs/demo/ticket-run, or draw from images of yours: draw images --data DIR"
    )


def comparison(tickets: dict[str, st.Ticket], measured: Bench) -> Table:
    """Return accuracy, costs and latency of networks as a table, one column each."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("", *tickets):
        table.add_column(heading, justify="right" if heading else "left")
    costs = [ticket.cost for ticket in tickets.values()]
    rows: list[tuple[str, list[float], str]] = [
        ("test accuracy, %", [ticket.about["test"]["top1"] for ticket in tickets.values()], ".1f"),
        ("parameters that are not zero", [cost.nonzero_params for cost in costs], ",.0f"),
        ("MACs of what is not zero", [cost.masked_macs for cost in costs], ",.0f"),
    ]
    latencies = measured.runs[0].latencies
    for runtime in measured.runtimes:
        times = [latencies[f"{name}/{runtime}"].median_ms for name in tickets]
        rows.append((f"measured latency, {runtime}, ms", times, ".3f"))
    for name, values, form in rows:
        table.add_row(name, *(format(value, form) for value in values))
    return table


def verdict(tickets: dict[str, st.Ticket], measured: Bench) -> str:
    """Return what the table says of the ticket beside the two others, each in the runtime that is its fastest."""
    latencies = measured.runs[0].latencies
    fastest = {name: min(latencies[f"{name}/{kind}"].median_ms for kind in measured.runtimes) for name in tickets}
    score = {name: ticket.about["test"]["top1"] for name, ticket in tickets.items()}
    beside = (
        f"{score['ticket'] - score[name]:+.1f} points and {fastest[name] / fastest['ticket']:.1f} times as fast as "
        f"the {name.replace(',', '')} network"
        for name in tickets
        if name != "ticket"
    )
    return f"the ticket: {'; '.join(beside)}; each in its fastest runtime"


def show_numbers(console: Console, recipe: st.Recipe, ticket: st.Ticket) -> None:
    """Print and draw what a ticket makes of ten held-out numbers."""
    test = load_splits(recipe.data).test
    image_list = [Image.fromarray(image[0].numpy()) for image in test.images[:10]]
    labels = [ticket.classes[int(label)] for label in test.labels[:10]]
    said = ticket.predict(image_list)
    draw_predictions(image_list, labels, said, OUT / "numbers.png")
    console.print("\n[bold]4. Ten held-out numbers[/]")
    console.print(f"  are        {' '.join(labels)}\n  predicted  {' '.join(classes[0][0] for classes in said)}")


def train_dense(recipe: st.Recipe) -> None:
    """Train the wide and the narrow network without pruning; what they say goes into a file."""
    with (OUT / "dense.log").open("w") as log, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        st.train(override_settings(recipe, DENSE), OUT / "wide", verbose=True)
        st.train(override_settings(recipe, NARROW), OUT / "narrow", verbose=True)


if __name__ == "__main__":
    main()
