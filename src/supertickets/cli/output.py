"""What several commands print in the same way, for people or as JSON, and their exit statuses."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from ..config.recipe import Recipe
from ..errors import UserError

DONE, USER, STOPPED = 0, 2, 130
OUT = Console(highlight=False, soft_wrap=True)


def print_plan(recipe: Recipe, as_json: bool) -> None:
    """Prints what happens after which epoch."""
    from ..config.schedule import Prune, check_schedule, plan_lines
    from ..data import load_splits
    from ..runs.auto_settings import resolve_auto_settings

    if recipe.epochs == 0:
        splits = load_splits(recipe.data, recipe.task)
        recipe, said = resolve_auto_settings(recipe, len(splits.train), splits.preprocessing.size[0])
        check_schedule(recipe)
        for line in (*splits.notes, *said):
            print(line, file=sys.stderr)
    found = [
        (t, [f"prune to {e.ratio:.0%}" if isinstance(e, Prune) else type(e).__name__.lower() for e in events])
        for t, events in plan_lines(recipe)
    ]
    if as_json:
        print_json([{"epoch": t, "events": names} for t, names in found])
        return
    for t, names in found:
        OUT.print(f"after epoch {t:4d}: {', '.join(names)}")
    OUT.print(f"after epoch {recipe.epochs:4d}: the ticket is emitted and measured on the test split")


def print_trained(work: Callable[[], Any], out: Path, as_json: bool) -> None:
    """Runs a training and tells what came out; Ctrl-C says how to go on."""
    from ..training import Interrupted
    from ..visualization.run_overview import draw_run_overview
    from .tables import cost_lines

    try:
        ticket = work()
    except Interrupted:
        print(f"stopped; go on with: supertickets resume {out}", file=sys.stderr)
        raise SystemExit(STOPPED) from None
    if not is_main():
        return
    result = out / "result.json"
    figure = draw_run_overview(out, ticket)
    if as_json:
        print_json({"ticket": str(out / "ticket"), "figure": str(figure), **json.loads(result.read_text())})
        return
    scores = ticket.about["test"]
    OUT.print(f"\nticket   {out / 'ticket'}\nfigure  {figure}")
    OUT.print("test     " + ", ".join(f"{name} {value:.4g}" for name, value in scores.items()))
    for line in cost_lines(ticket.cost):
        OUT.print(line)
    for row in ticket.about.get("connection_search", {}).get("candidates", ()):
        OUT.print(f"scheme   {row['scheme']}  reward {row['reward']:.4f}, quality {row['quality']:.2%}")


def print_said(
    figures: Iterable[tuple[Path, Any]], lines: Callable[[Mapping[str, Any]], list[str]], as_json: bool
) -> None:
    """Prints what was said of each figure, as it comes; broken ones are told, and passed over."""
    found, broken = [], False
    for image, said in figures:
        if isinstance(said, UserError):
            print(f"error: {said}", file=sys.stderr)
            broken = True
            continue
        found.append({"image": str(image), **said})
        if not as_json:
            for line in lines(said):
                OUT.print(escape(f"{image}: {line}"))
    if as_json:
        print_json(found)
    if broken:
        raise SystemExit(USER)


def print_json(data: Any) -> None:
    """Prints one JSON value, for other programs."""
    print(json.dumps(data, indent=1))


def is_main() -> bool:
    """Whether this is the one process that talks, also before torchrun's processes have met."""
    return os.environ.get("RANK", "0") == "0"
