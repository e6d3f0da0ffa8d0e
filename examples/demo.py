"""Two trainings on handwritten digits, a core each: the dense supernet, and a ticket drawn from it. Then both compared.

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
from supertickets.config.loading import load_recipe
from supertickets.data import load_splits
from supertickets.deploy import BenchSettings, bench, export
from supertickets.deploy.runtimes import installed_runtimes
from supertickets.visualization.digits_page import draw_digits
from supertickets.visualization.run_overview import draw_run_overview

OUT = Path("runs/demo")


def main() -> None:
    console = Console(highlight=False)
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    recipe = dataclasses.replace(load_recipe("digits", sys.argv[1:]), threads=1)
    begin = time.perf_counter()

    console.print(f"\n[bold]1. The dense supernet[/], trained as it is, in a process of its own (see {OUT}/dense.log)")
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as other_core:
        waiting = other_core.submit(train_dense, recipe)
        console.print(f"\n[bold]2. A ticket[/], searched and pruned to {recipe.prune.ratio:.0%} zeros in one run")
        ticket = st.draw(recipe, OUT / "ticket-run", verbose=True)
        waiting.result()
    dense = st.load(OUT / "dense")
    trained = time.perf_counter() - begin

    console.print("\n[bold]3. Side by side[/]")
    made = export(ticket, OUT / "ticket.onnx")
    measured = bench({"dense": dense, "ticket": ticket}, BenchSettings(runtimes=installed_runtimes(exact=True)))
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("", "dense supernet", "ticket", "ticket / dense"):
        table.add_column(heading, justify="right" if heading else "left")
    a, b = dense.cost, ticket.cost
    rows: list[tuple[str, float, float, str]] = [
        ("test accuracy, %", dense.about["test"]["top1"], ticket.about["test"]["top1"], ".1f"),
        ("parameters", a.params, b.params, ",.0f"),
        ("parameters that are not zero", a.nonzero_params, b.nonzero_params, ",.0f"),
        ("MACs, every weight in place", a.macs, b.macs, ",.0f"),
        ("MACs under the mask, per layer", a.masked_macs, b.masked_macs, ",.0f"),
        ("MACs as the paper counts", a.paper_macs, b.paper_macs, ",.0f"),
    ]
    for runtime in measured.runtimes:
        slow, fast = (measured.runs[0].latencies[f"{name}/{runtime}"].median_ms for name in ("dense", "ticket"))
        rows.append((f"measured latency, {runtime}, ms", slow, fast, ".3f"))
    for name, dense_value, ticket_value, form in rows:
        share = "" if "accuracy" in name else f"{ticket_value / dense_value:.2f}"
        table.add_row(name, format(dense_value, form), format(ticket_value, form), share)
    console.print(table)
    console.print(f"latency: one image, one thread, {measured.device}; training took {trained:.0f} s")

    test = load_splits(recipe.data).test
    image_list = [Image.fromarray(image[0].numpy()) for image in test.images[:10]]
    labels = [ticket.classes[int(label)] for label in test.labels[:10]]
    said = ticket.predict(image_list)
    draw_digits(image_list, labels, said, OUT / "digits.png")
    console.print("\n[bold]4. Ten held-out digits[/]")
    console.print(f"  are        {' '.join(labels)}\n  predicted  {' '.join(classes[0][0] for classes in said)}")

    console.print("\n[bold]5. What you have now[/]")
    for what, path in (
        ("the ticket", OUT / "ticket-run" / "ticket"),
        (f"its ONNX file (within {made.parity:.0e} of the ticket)", made.path),
        ("a figure of the run", draw_run_overview(OUT / "ticket-run", ticket)),
        ("the ten digits", OUT / "digits.png"),
    ):
        console.print(f"  {path}  {what}")
    console.print(
        "\nNext: .venv/bin/supertickets show runs/demo/ticket-run, or draw one from MNIST files: draw mnist --data DIR"
    )


def train_dense(recipe: st.Recipe) -> None:
    """Train the supernet without search and pruning; what it says goes into a file."""
    with (OUT / "dense.log").open("w") as log, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        st.train(recipe, OUT / "dense", verbose=True)


if __name__ == "__main__":
    main()
