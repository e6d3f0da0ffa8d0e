"""Statistics of the connection schemes that a search judged (LTH4SA, Sec. III): ratios, scores of blocks, periods.

Shapes: S schemes, M blocks.
"""

from __future__ import annotations

import csv
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich import box
from rich.table import Table
from scipy.stats import linregress
from torch import Tensor

from ..algorithms.connection_search import SCHEMES_FILE, SHARED_DIR
from ..cost.latency import TimeIncrement, time_increments
from ..device import on_threads, preserve_random_state
from ..errors import UserError
from ..models import ResNetSpec, require_resnet
from ..ticket import Ticket


@dataclass(frozen=True)
class JudgedSchemes:
    """Schemes that were judged with shared weights, the best first.

    Attributes:
        spec: Network of all schemes.
        schemes: bool, (S, M).
        quality: Quality on the validation split, from 0 to 1, (S,).
        params: Parameters of their networks, (S,).
    """

    spec: ResNetSpec
    schemes: Tensor
    quality: Tensor
    params: Tensor

    @property
    def connections(self) -> Tensor:
        """Connected blocks of the schemes, (S,)."""
        return self.schemes.sum(1)

    @property
    def full(self) -> float:
        """The quality with all connections."""
        return self.quality_of(self.spec.connected)

    @property
    def plain(self) -> float:
        """The quality without any."""
        return self.quality_of([False] * len(self.spec.connected))

    def quality_of(self, scheme: Sequence[bool]) -> float:
        """Return the quality of one of the schemes."""
        return float(self.quality[(self.schemes == torch.tensor(scheme)).all(1)][0])


def sort_schemes(spec: ResNetSpec, schemes: Tensor, quality: Tensor) -> JudgedSchemes:
    """Sort judged schemes (S, M) by their quality (S,), the best first; of equals the first stays first."""
    order = quality.argsort(descending=True, stable=True)
    return JudgedSchemes(spec, schemes[order], quality[order], count_parameters(spec, schemes[order]))


@dataclass(frozen=True)
class FittedLine:
    """A least-squares line.

    Attributes:
        slope: Slope per unit of x.
        error: Standard error of the slope.
        p: Probability of such a slope without a trend.
    """

    slope: float
    error: float
    p: float


def read_scheme_search(run: Path, trust: Iterable[str] = ()) -> JudgedSchemes:
    """Read the schemes that a connection search judged.

    Args:
        run: Directory of the search.
        trust: Modules that may be imported if its network names them.

    Raises:
        UserError: There is no such search, it has not judged the two ends, or it names code that is not trusted.
    """
    if not (run / SCHEMES_FILE).is_file():
        raise UserError(f"{run} is no finished search for connections: it has no {SCHEMES_FILE}")
    spec = require_resnet(Ticket.from_pretrained(run / SHARED_DIR, trust).spec)
    with (run / SCHEMES_FILE).open() as file:
        qualities = {row["scheme"]: float(row["quality"]) for row in csv.DictReader(file)}
    if {without_connections(spec).scheme, spec.scheme} - set(qualities):
        raise UserError(
            f"{run} has judged too few schemes to compare: no connection and all of them are missing; begin with "
            f"supertickets search ... --by ratios --shared {run}"
        )
    schemes = torch.tensor([[digit == "1" for digit in scheme.replace("|", "")] for scheme in qualities])
    return sort_schemes(spec, schemes, torch.tensor([*qualities.values()], dtype=torch.float64))


@preserve_random_state(torch.device("cpu"))
def count_parameters(spec: ResNetSpec, schemes: Tensor) -> Tensor:
    """Return the parameters of the networks of schemes (S, M) as (S,).

    A module counts if any of its blocks is connected.
    """
    network = spec.build()
    names = [name for stage in spec.names() for name in stage]
    sizes: dict[int, int] = {}
    blocks: dict[int, list[int]] = {}
    for i, name in enumerate(names):
        if spec.connected[i]:
            module = network.attention_of(name)
            sizes[id(module)] = sum(weight.numel() for weight in module.parameters())
            blocks.setdefault(id(module), []).append(i)
    plain = sum(weight.numel() for weight in network.parameters()) - sum(sizes.values())
    total = torch.full((len(schemes),), plain)
    for key, size in sizes.items():
        total += schemes[:, blocks[key]].any(1) * size
    return total


def with_connections(spec: ResNetSpec, connected: Sequence[bool]) -> ResNetSpec:
    """Return the spec with other connections."""
    return replace(spec, connected=tuple(connected))


def without_connections(spec: ResNetSpec) -> ResNetSpec:
    """Return the spec with no connection."""
    return with_connections(spec, [False] * len(spec.connected))


def connection_scores(schemes: Tensor) -> Tensor:
    """Return the share of schemes (S, M) that connect each block, (M,) (Eq. 5)."""
    return schemes.double().mean(0)


def fit_line(x: Tensor, y: Tensor) -> FittedLine:
    """Fit a line through points by least squares; both (N,). Equal values of y give a flat line with p = 1."""
    if len(y.unique()) == 1:
        return FittedLine(0.0, 0.0, 1.0)
    fit = linregress(x.numpy(), y.numpy())
    return FittedLine(float(fit.slope), float(fit.stderr), float(fit.pvalue))


def periodicity(scheme: Sequence[bool]) -> tuple[int, float]:
    """Return the period of a scheme, 1 to 4 blocks, by which most blocks equal the one before; and their share."""
    alike = {
        period: sum(one == other for one, other in zip(scheme, scheme[period:], strict=False)) / (len(scheme) - period)
        for period in range(1, min(5, len(scheme)))
    }
    best = max(alike, key=lambda period: (alike[period], -period))
    return best, alike[best]


def tickets_and_bad(seen: JudgedSchemes) -> tuple[Tensor, Tensor]:
    """Return two sets (S,) of schemes, as far as shared weights tell (Sec. III-C).

    Returns:
        Tickets: sparser and smaller than the network with all connections (as large at most, where stages share their
        modules), and not less accurate; bad ones: less accurate than that without.
    """
    smaller = (seen.params < seen.params.max()) | (seen.spec.sharing == "stage")
    sparser = (seen.connections < sum(seen.spec.connected)) & smaller
    return sparser & (seen.quality >= seen.full), seen.quality < seen.plain


def summarize_schemes(seen: JudgedSchemes, times: Mapping[int, TimeIncrement]) -> dict[str, Any]:
    """Return the study of Sec. III as plain JSON.

    Args:
        seen: Judged schemes.
        times: Time increments by `time_schemes`; empty if nothing was timed.
    """
    rows = []
    for number in seen.connections.unique().tolist():
        own = seen.connections == number
        quality, params = seen.quality[own], seen.params[own]
        longer = sorted(increment.percent for i, increment in times.items() if own[i])
        rows.append(
            {
                "connections": number,
                "schemes": len(quality),
                "quality": [float(quality.min()), float(quality.mean()), float(quality.max())],
                "params": [int(params.min()), int(params.max())],
                "above_full": float((quality > seen.full).double().mean()),
                "below_plain": float((quality < seen.plain).double().mean()),
                "percent": [longer[0], statistics.median(longer), longer[-1]] if longer else [],
            }
        )
    summary: dict[str, Any] = {"full": seen.full, "plain": seen.plain, "ratios": rows, "scores": {}}
    for name, flags in zip(("tickets", "bad"), tickets_and_bad(seen), strict=True):
        summary["scores"][name] = {"schemes": int(flags.sum())}
        if flags.any():
            score = connection_scores(seen.schemes[flags])
            summary["scores"][name] |= {"by_block": score.tolist(), **asdict(fit_line(_blocks(score), score))}
    summary["quality_per_connection"] = asdict(fit_line(seen.connections.double(), seen.quality))
    return summary


def time_schemes(
    seen: JudgedSchemes, most: int, batch: int, repeats: int, threads: int = 1
) -> dict[int, TimeIncrement]:
    """Measure relative inference time increments over the network without connections (Eq. 7).

    Args:
        seen: Judged schemes.
        most: Number of schemes per number of connections, drawn at random.
        batch: Images per call.
        repeats: Timing repetitions.
        threads: CPU threads.

    Returns:
        Time increments by the place of a scheme among those seen.
    """
    generator = torch.Generator().manual_seed(0)
    chosen: list[int] = []
    for number in seen.connections.unique().tolist():
        own = (seen.connections == number).nonzero()[:, 0]
        if number:
            chosen += own[torch.randperm(len(own), generator=generator)[:most]].tolist()
    specs = {"plain": without_connections(seen.spec)}
    specs |= {str(i): with_connections(seen.spec, seen.schemes[i].tolist()) for i in chosen}
    return {int(name): increment for name, increment in time_networks(specs, batch, repeats, threads).items()}


@preserve_random_state(torch.device("cpu"))
def time_networks(specs: dict[str, ResNetSpec], batch: int, repeats: int, threads: int = 1) -> dict[str, TimeIncrement]:
    """Measure how much longer than the first network all others take, with fresh weights, on the CPU."""
    images = torch.randn(batch, *next(iter(specs.values())).input_shape).to(memory_format=torch.channels_last)
    modules = {name: spec.build().eval().to(memory_format=torch.channels_last) for name, spec in specs.items()}
    with on_threads(threads), torch.inference_mode():
        return time_increments({name: partial(module, images) for name, module in modules.items()}, repeats)


def schemes_table(summary: Mapping[str, Any]) -> Table:
    """Return a table with a row per number of connections."""
    timed = any(row["percent"] for row in summary["ratios"])
    caption = "quality with shared weights, %: least, mean, most; schemes above that of all connected, and below none"
    table = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        caption=caption + ("; longer than none, %: least, median, most" if timed else ""),
        caption_justify="left",
    )
    for heading in ("on", "schemes", "quality", "parameters, k", "> all", "< none", *(["longer"] if timed else [])):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in summary["ratios"]:
        least, most = (f"{value / 1e3:.1f}" for value in row["params"])
        cells = [
            str(row["connections"]),
            f"{row['schemes']:,}",
            " ".join(f"{100 * value:.1f}" for value in row["quality"]),
            least if least == most else f"{least}-{most}",
            f"{row['above_full']:.0%}",
            f"{row['below_plain']:.0%}",
        ]
        if timed:
            cells.append(" ".join(f"{value:.1f}" for value in row["percent"]))
        table.add_row(*cells)
    return table


def _blocks(score: Tensor) -> Tensor:
    """Return the numbers of blocks, from 1."""
    return torch.arange(1, len(score) + 1).double()
