"""Exit statuses, and the printing that commands share: for people, or as JSON."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from ..errors import UserError, explain_fault, missing_library, printable, stop_status

if TYPE_CHECKING:
    from rich.console import Console

    from ..config.recipe import Recipe

DONE, DEFECT, USER = 0, 1, 2
FIGURE = "figure.png"  # of a run, drawn last
_FILE_WIDTH = 120  # letters of a line of a table in a file


def print_text(text: object = "", file: TextIO | None = None) -> None:
    """Print a text whose names may come from anywhere: what would steer a terminal is spelt out."""
    print(printable(str(text)), file=file)


def print_json(data: Any) -> None:
    """Print one JSON value, for other programs."""
    print_text(json.dumps(data, indent=1))


def print_table(table: Any) -> None:
    """Print a table, or anything else that rich draws; names in it do not steer a terminal."""
    from rich.console import Console
    from rich.segment import Segment, Segments

    width = None if sys.stdout.isatty() else _FILE_WIDTH
    console = Console(highlight=False, soft_wrap=True, width=width, markup=False)
    options = console.options.update(no_wrap=True, overflow="ignore")
    drawn = [Segment(printable(one.text), one.style, one.control) for one in console.render(table, options)]
    console.print(Segments(drawn), end="")


def progress_console() -> Console:
    """Return the console that shows progress: standard error, so that what is printed stays clean."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True, markup=False)


@contextmanager
def repeatable() -> Iterator[None]:
    """Turn Ctrl-C and its like into a line that says that the same command goes on."""
    from ..training import Interrupted, show_progress

    try:
        with show_progress():
            yield
    except (Interrupted, KeyboardInterrupt) as stop:
        print_text("stopped; the same command goes on", file=sys.stderr)
        raise SystemExit(stop_status(stop)) from None


def print_plan(recipe: Recipe, as_json: bool) -> None:
    """Print the events of a recipe by epoch.

    Raises:
        UserError: The draw would be refused, or its epochs are asked for in JSON and not known yet.
    """
    from ..config.schedule import Prune, format_percent, late_prune_warning, path_line, plan_lines

    if recipe.minutes is not None and as_json:
        raise UserError("a plan in JSON lists epochs, which minutes choose later; give --epochs instead of --minutes")
    if recipe.epochs == 0 or recipe.minutes is not None or recipe.data.dir is not None or _has_budget_and_data(recipe):
        recipe = _resolved(recipe)
    if recipe.minutes is not None:  # all that is counted in epochs is stretched to those that fit
        print(path_line(recipe, is_share=True) or "search and prunes are spread over the epochs that fit")
        return

    def word(event: object) -> str:
        match event:
            case Prune(None):
                return "prune to the budget"
            case Prune(float(ratio)):
                return f"prune to {format_percent(ratio)}"
        return type(event).__name__.lower()

    plan = [(epoch, [word(event) for event in events]) for epoch, events in plan_lines(recipe)]
    if as_json:
        print_json([{"epoch": epoch, "events": names} for epoch, names in plan])
        return
    if line := path_line(recipe):
        print(line)
    if warning := late_prune_warning(recipe):
        print_text(warning, file=sys.stderr)
    for epoch, names in plan:
        print_text(f"after epoch {epoch:4d}: {', '.join(names)}")
    print_text(f"after epoch {recipe.epochs:4d}: the ticket is saved and measured on the test split")


def _has_budget_and_data(recipe: Recipe) -> bool:
    """Return whether it can be told if a budget is met; all other plans of embedded data start without PyTorch."""
    from ..config.data_sources import SOURCES

    return bool(recipe.budget.given) and recipe.data.source in SOURCES and not SOURCES[recipe.data.source].takes_dir


def _resolved(recipe: Recipe) -> Recipe:
    """Return a recipe with the settings that its data chooses, and tell them and the network.

    Raises:
        UserError: A run would be refused: its data, its batches or its network.
    """
    from ..algorithms.budget_checks import check_reachable
    from ..algorithms.two_in_one import TwoInOne
    from ..config.schedule import check_schedule
    from ..cost import count
    from ..deploy import measure_network
    from ..device import find_device
    from ..runs.auto_settings import resolve_auto_settings
    from ..runs.execution import with_measure
    from ..runs.model_init import supernet_for
    from ..runs.pretrained import load_prepared_splits
    from ..runs.references import tell_counterpart
    from ..runs.session import check_batches
    from ..training import Runtime, initial_state

    with_measure(TwoInOne(), measure_network).check(recipe)
    recipe, splits = load_prepared_splits(recipe)
    recipe, notes = resolve_auto_settings(recipe, len(splits.train), splits.preprocessing.size[0])
    check_schedule(recipe)
    check_batches(recipe, splits, Runtime(find_device("cpu"), 0, int(os.environ.get("WORLD_SIZE", "1"))))
    spec = supernet_for(recipe, splits)
    if recipe.draws_to_budget and (spec.unit_groups() or not recipe.search.interval):  # units are traced in a draw
        check_reachable(recipe, spec, initial_state(spec, recipe, find_device("cpu")))
    elif recipe.draws_to_budget:
        notes.append("whether the budget can be met is known when the draw has traced the search units")
    steps = len(splits.train) // recipe.data.batch
    notes.append(f"{spec}: {count(spec).macs / 1e6:.2f} M MACs; {steps:,} steps per epoch")
    notes += tell_counterpart(recipe, splits)
    if recipe.minutes is not None:
        minutes = f"the epochs that {recipe.minutes:g} minutes hold, and smaller images where these are few,"
        notes.append(f"{minutes} are chosen when the training begins (--minutes)")
    for line in (*splits.notes, *notes):
        print_text(line, file=sys.stderr)
    return recipe


def print_trained(work: Callable[[], Any], out: Path, as_json: bool) -> None:
    """Run a training and print its ticket, scores and costs; what stops it says how to resume it.

    Args:
        work: Training, which returns a ticket.
        out: Run directory.
        as_json: Whether to print JSON.
    """
    from ..training import show_progress
    from .tables import cost_lines

    with _saying_how_to_go_on(out), show_progress():
        ticket = work()
    if not is_main():
        return
    figure = _draw_overview(out, ticket)
    if as_json:
        paths = {"ticket": str(out / "ticket")} | ({} if figure is None else {"figure": str(figure)})
        result = json.loads((out / "result.json").read_text())
        print_json(paths | {name: value for name, value in result.items() if name != "sha256"})
        return
    print_text(f"\nticket   {out / 'ticket'}" + ("" if figure is None else f"\nfigure   {figure}"))
    print_text("test     " + ", ".join(f"{name} {value:.4g}" for name, value in ticket.about["test"].items()))
    for line in cost_lines(ticket.cost):
        print_text(line)
    for row in ticket.about.get("connection_search", {}).get("candidates", ()):
        print_text(f"scheme   {row['scheme']}  reward {row['reward']:.4f}, quality {row['quality']:.2%}")


@contextmanager
def _saying_how_to_go_on(out: Path) -> Iterator[None]:
    """Let signals and faults of the machine end a run with a line that says how to resume it.

    Raises:
        SystemExit: A signal stopped it.
        UserError: The disk is full, the memory used up, or the directory gone.
        Fault: A process of the run has ended.
    """
    from ..training import Interrupted, RunDir

    resume = f"supertickets resume {shlex.quote(str(out))}"
    try:
        yield
    except (Interrupted, KeyboardInterrupt) as stop:
        begun = RunDir(out).is_unfinished()
        print_text(f"stopped; go on with: {resume}" if begun else "stopped; nothing was saved yet", file=sys.stderr)
        raise SystemExit(stop_status(stop)) from None
    except Exception as error:
        if isinstance(error, FileNotFoundError) and not out.is_dir():
            raise UserError(f"the directory of the run is gone: {out}; begin anew, or put it back and resume") from None
        fault = explain_fault(error)
        if fault is None:
            raise
        begun = RunDir(out).is_unfinished()
        raise type(fault)(f"{fault}" + (f"; then go on with: {resume}" if begun else "")) from None


def _draw_overview(out: Path, ticket: Any) -> Path | None:
    """Draw the figure of a run; without the library that draws, say so and leave it out."""
    try:
        from ..visualization.run_overview import draw_run_overview
    except ModuleNotFoundError as error:
        print_text(f"no figure: {missing_library(error) or error}", file=sys.stderr)
        return None
    return draw_run_overview(out, ticket)


def print_images(
    results: Iterable[tuple[Path, Any]], lines: Callable[[Mapping[str, Any]], list[str]], as_json: bool
) -> None:
    """Print the result of each image as it comes; unreadable images are named and left out.

    Args:
        results: Images, each with its result, or with the error that it caused.
        lines: Function that words a result for people.
        as_json: Whether to print JSON.

    Raises:
        SystemExit: An image could not be read; the others are printed.
    """
    readable, broken = [], False
    for image, result in results:
        if isinstance(result, UserError):
            print_text(f"error: {result}", file=sys.stderr)
            broken = True
            continue
        readable.append({"image": str(image), **result})
        if not as_json:
            for line in lines(result):
                print_text(f"{image}: {line}")
    if as_json:
        print_json(readable)
    if broken:
        raise SystemExit(USER)


def is_main() -> bool:
    """Return whether this is the one process that prints, also before torchrun's processes have met."""
    return os.environ.get("RANK", "0") == "0"
