"""Transfers tickets to a target and compares them with search-then-prune there and with training from scratch.

Per ratio and seed: `transfer` (the source ticket's features on the target), `scratch` (the same architecture, mask and
schedule from fresh weights), `mag` and `grad` (the target searched only, then pruned in one shot), `mag_retrained` and
`grad_retrained` (trained further after that). Every finished cell is written at once and not repeated.

Example: python benchmarks/transfer_study.py camvid --source runs/tiny_{percent} --head runs/camvid_{percent}
    --ratios 0.8 0.9 --seeds 0 --retrain-epochs 30 --to benchmarks/results/tiny_to_camvid.json --data.dir DIR
Further flags are settings of the target's recipe; those of pruning say what is exempt in search-then-prune.
"""

import argparse
import dataclasses
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import supertickets as st
from commands import command
from supertickets.cost.latency import device_name
from supertickets.tasks import headline

RETRAINED = {"mag": "mag_retrained", "grad": "grad_retrained"}
CRITERIA = {"mag": "magnitude", "grad": "snip"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", help="of the target")
    parser.add_argument("--source", required=True, help="tickets to transfer; {percent} stands for the ratio")
    parser.add_argument("--head", help="tickets of the target that give the head; {percent} as in --source")
    parser.add_argument("--ratios", type=float, nargs="+", default=[0.8, 0.9, 0.95, 0.98])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--retrain-epochs", type=int, default=50)
    parser.add_argument("--batches", type=int, default=10, help="training batches that grad looks at")
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    options, words = parser.parse_known_args()
    exempt, settings = parted(words)
    cells = json.loads(options.to.read_text())["cells"] if options.to.exists() else []

    def cell(method: str, ratio: float, seed: int, run: Callable[[Path], st.Ticket]) -> None:
        """Does a cell unless it is there, and writes all of them."""
        if any((c["method"], c["ratio"], c["seed"]) == (method, ratio, seed) for c in cells):
            return
        out = options.runs / f"{options.to.stem}-{method}-{100 * ratio:g}-seed{seed}"
        cells.append({"method": method, "ratio": ratio, "seed": seed, **row(done(out, run))})
        write(options.to, cells)

    for seed in options.seeds:
        own = [*settings, "--seed", str(seed)]
        searched: Path = options.runs / f"{options.to.stem}-searched-seed{seed}"
        cell("searched", 0.0, seed, lambda out: st.load(search(searched, options.recipe, own)))  # noqa: B023
        for ratio in options.ratios:
            source, head = (ticket_at(pattern, ratio) for pattern in (options.source, options.head))
            assert source is not None

            def moved(ticket: st.Ticket, head: st.Ticket | None, out: Path, own: list[str] = own) -> st.Ticket:
                return st.transfer(ticket, st.load_recipe(options.recipe, own), out, head)

            cell("transfer", ratio, seed, lambda out: moved(source, head, out))  # noqa: B023
            anew = [None if t is None else fresh(t, seed + i) for i, t in enumerate((source, head))]
            cell("scratch", ratio, seed, lambda out: moved(anew[0], anew[1], out))  # noqa: B023
            for method, criterion in CRITERIA.items():

                def pruned(
                    out: Path, criterion: Any = criterion, ratio: float = ratio, at: Path = searched
                ) -> st.Ticket:
                    ticket = st.load(search(at, options.recipe, own))  # noqa: B023
                    recipe = st.restate.prune_recipe(ticket, ratio, criterion, exempt)
                    return st.prune(ticket, recipe, out, criterion, options.batches)

                def retrained(out: Path, method: str = method, pruned: Any = pruned) -> st.Ticket:
                    ticket = done(out.with_name(out.name.replace(RETRAINED[method], method)), pruned)
                    return st.retrain(ticket, st.restate.retrain_recipe(ticket, options.retrain_epochs), out)

                cell(method, ratio, seed, pruned)
                cell(RETRAINED[method], ratio, seed, retrained)
    print(options.to.read_text())


def parted(words: list[str]) -> tuple[list[str], list[str]]:
    """Parts words on pruning from the other settings."""
    found: tuple[list[str], list[str]] = ([], [])
    queue = list(words)
    while queue:
        word = queue.pop(0)
        room = found[0] if word.startswith("--prune.") else found[1]
        room.append(word)
        if "=" not in word and queue:
            room.append(queue.pop(0))
    return found


def ticket_at(pattern: str | None, ratio: float) -> st.Ticket | None:
    return None if pattern is None else st.load(pattern.replace("{percent}", f"{100 * ratio:g}"))


def search(out: Path, recipe: str, settings: list[str]) -> Path:
    """The target searched only, with the recipe's own schedule."""
    done(out, lambda out: st.draw(st.load_recipe(recipe, ["--prune.ratio", "0", *settings]), out))
    return out


def done(out: Path, run: Callable[[Path], st.Ticket]) -> st.Ticket:
    """The ticket of a run: finished already, taken up again or done now."""
    if (out / "result.json").exists():
        return st.load(out)
    return st.resume(out) if (out / "run.json").exists() else run(out)


def fresh(ticket: st.Ticket, seed: int) -> st.Ticket:
    """The ticket's architecture and mask with weights before any training."""
    torch.manual_seed(seed)
    weights = dict(ticket.spec.build().state_dict())
    weights |= {name: weights[name] * flags for name, flags in ticket.mask.items()}
    return dataclasses.replace(ticket, weights=weights)


def row(ticket: st.Ticket) -> dict[str, Any]:
    """The figures of a cell; its sparsity is that of the whole network, a fresh head included."""
    name, value = headline(ticket.about["test"]) or ("", 0.0)
    cost = ticket.cost
    return {
        "metric": name,
        "test": value,
        "validation": (headline(ticket.about["validation"]) or ("", 0.0))[1],
        "sparsity": cost.sparsity,
        "params": cost.params,
        "nonzero_params": cost.nonzero_params,
        "macs": cost.macs,
        "masked_macs": cost.masked_macs,
        "paper_macs": cost.paper_macs,
        "image_passes": ticket.about["samples"],
        "epochs": ticket.about["recipe"]["epochs"] if ticket.about["samples"] else 0,
    }


def write(path: Path, cells: list[dict[str, Any]]) -> None:
    """All cells so far, and the mean of the test figure over seeds; the file is the old or the new one, whole."""
    groups: dict[str, list[float]] = {}
    for c in cells:
        groups.setdefault(f"{c['method']} at {c['ratio']:g}", []).append(c["test"])
    result = {
        "command": command(),
        "device": device_name(),
        "threads": torch.get_num_threads(),
        "versions": st.runs.versions(),
        "test_mean": {name: statistics.mean(values) for name, values in groups.items()},
        "cells": cells,
    }
    scratch = path.with_suffix(".tmp")
    scratch.write_text(json.dumps(result, indent=1) + "\n")
    scratch.replace(path)


if __name__ == "__main__":
    main()
