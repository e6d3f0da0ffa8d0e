"""The card of a ticket: Markdown that tells its figures and its origin."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..cost import Cost
from ..cost.budget import format_cost
from ..models import Spec
from ..tasks import Task

# First lines, by the command that made the ticket.
_SUMMARIES = {
    "draw": "A small network, searched and pruned in one training run.",
    "search": "A small network from a search; its weights are those that all networks of the space share.",
    "train": "Dense baseline model.",
    "retrain": "A small network, trained further.",
    "transfer": "A small network with features transferred from other data.",
    "prune": "A network, pruned in one shot.",
}


def format_card(spec: Spec, task: Task, cost: Cost, about: Mapping[str, Any]) -> str:
    """Return a ticket's card, as Markdown.

    Args:
        spec: The architecture.
        task: The task of the ticket.
        cost: Parameters and MACs.
        about: `Ticket.about`.
    """
    summary = _SUMMARIES.get(str(about.get("command")), _SUMMARIES["draw"])
    if not spec.full().unit_groups():
        summary = summary.replace("searched and pruned", "pruned")  # there was nothing to search
    table = "\n".join(f"| {name} | {value} |" for name, value in _rows(spec, task, cost, about))
    return (
        f"---\nlibrary_name: supertickets\npipeline_tag: {task.hub_tag}\n---\n\n"
        f"# SuperTicket\n\n{summary}\n\n"
        f"| | |\n|---|---|\n{table}\n\n"
        "Zeros save time only where a runtime uses them; `supertickets bench` measures it on your device.\n\n"
        "```python\nimport supertickets as st\n\n"
        'ticket = st.load("path/to/this/folder")\nprint(ticket.predict("image.png"))\n```\n'
    )


def _rows(spec: Spec, task: Task, cost: Cost, about: Mapping[str, Any]) -> list[tuple[str, str]]:
    recipe = about.get("recipe", {})
    return [
        *_history_rows(about),
        *_network_rows(spec, about),
        *_weights_rows(about),
        ("task", f"{recipe.get('task') or task.name}, {len(task.classes)} {task.outputs}"),
        ("data", f"{recipe.get('data', {}).get('source', '?')}"),
        ("input", "{} x {} x {}".format(*spec.input_shape)),
        *((f"test {k}", f"{v:.4g}") for k, v in about.get("test", {}).items()),
        *((f"validation {k}", f"{v:.4g}") for k, v in about.get("validation", {}).items()),
        ("parameters", f"{cost.params:,}, of which not zero {cost.nonzero_params:,}"),
        ("sparsity", f"{cost.sparsity:.2%} of maskable weights, {cost.sparsity_all:.2%} of all parameters"),
        ("MACs, dense", f"{cost.macs:,}"),
        ("MACs under the mask, per layer", f"{cost.masked_macs:,}"),
        ("MACs as the paper counts (dense x global density)", f"{cost.paper_macs:,}"),
        *_instead_rows(about),
        ("image-passes", f"{about.get('samples', 0):,}"),
        ("recipe", f"{recipe.get('name', '?')}, seed {recipe.get('seed', '?')}"),
        ("versions", ", ".join(f"{k} {v}" for k, v in about.get("versions", {}).items())),
    ]


def _network_rows(spec: Spec, about: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return rows on the network: its name, and the result of a search."""
    rows = [("network", about.get("recipe", {}).get("supernet", {}).get("name", str(spec)))]
    if search := about.get("search"):
        target, cost = (format_cost(search["budget"], search[name]) for name in ("target", "cost"))
        rows.append(("searched for", f"{target}; costs {cost}"))
    if search := about.get("connection_search"):
        rows.append(("connection scheme", f"{search['scheme']}, the best of {search['judged']:,} ({search['by']})"))
    return rows


def _weights_rows(about: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return a row on the weights that others trained, if it or what it was made from began with such."""
    if not (weights := about.get("pretrained")):
        return []
    fresh = f"; fresh were {', '.join(weights['fresh'])}" if weights["fresh"] else ""
    return [("began with", f"weights of {weights['source']} (sha256 {weights['sha256']}){fresh}")]


def _instead_rows(about: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return a row on the plain network that one would train instead, if one is known that costs about as much."""
    if not (title := about.get("instead")):
        return []
    said = f"a plain {title}, which costs about as much without zeros; `supertickets compare` trains and times both"
    return [("what one would train instead", said)]


def _history_rows(about: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return rows on the origin of a ticket that did not begin with a full supernet."""
    if not about.get("lineage"):
        return []
    now = about["recipe"] | {"data": about["recipe"]["data"]["source"], "recipe": about["recipe"]["name"]}
    rows = [("history", _format_lineage([*about["lineage"], now | {"command": about["command"]}]))]
    if head := about.get("head"):
        known = {
            "kept": "the source's, with a fresh classifier",
            "fresh": "fresh, without a mask",
            "inherited": f"inherited from {_format_lineage(head.get('lineage', ()))}",
        }
        rows.append(("head", known[head["kind"]]))
    if criterion := about.get("criterion"):
        rounds = about.get("rounds", 1)
        rows.append(("criterion", f"{criterion}, " + (f"in {rounds} rounds" if rounds > 1 else "in one shot")))
    return rows


def _format_lineage(steps: Iterable[Mapping[str, Any]]) -> str:
    return ", then ".join("{command} {recipe} ({task} on {data})".format_map(step) for step in steps)
