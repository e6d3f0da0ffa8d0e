"""Compute the width from which a neuron can be dropped: Theorem 1 of LTH4SA, its bound and random networks.

Example: python examples/droppable_neuron.py [probabilities.png]

The network is W2 relu(W1 x) with |x| <= 1, rows w_1 ... w_m of W1 in R^d with entries from N(0, 1/m), and W2 of signs.
Without neuron j its output changes by relu(w_j x), at most by |w_j|, and by that much at x = w_j / |w_j|. So a neuron
can be dropped at a cost below eps exactly if the shortest row is shorter than eps. As m |w_j|^2 ~ chi2(d),

    P(some neuron can be dropped) = 1 - Q_d(m eps^2)^m,    Q_n(t) = P(chi2(n) >= t),

which grows with m; the smallest m at which it exceeds 1 - delta is the `sharp` width.

The theorem says that m > ln(delta) / ln(Q_{d-1}(eps^2)) is enough. Three things about it:

- Its rows have d entries, so that d degrees of freedom are meant. With d - 1 the bound is too small for its own proof,
  which looks for a row shorter than eps / sqrt(m); and where it asks for very few neurons (a large eps), or for none
  (d = 1), what it says is wrong: see the row d = 2, eps = 2.
- The proof's "P^m < eps" has to be "P^m < delta".
- Its probability holds eps^2 where m eps^2 would do, because it bounds the change by |W2| |w_j| = sqrt(m) |w_j|,
  although one entry of W2, a sign, is all that meets w_j. With d degrees the bound is therefore right and conservative,
  the more so the more inputs there are: it grows like eps^-d, the sharp width only like eps^(-2d / (d + 2)).
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from scipy.stats import chi2

NETWORKS, AT_ONCE = 4000, 250
# d, eps, delta
CASES = (
    (2, 0.1, 0.05),
    (2, 0.5, 0.05),
    (2, 2.0, 0.05),
    (4, 0.5, 0.05),
    (4, 0.5, 0.001),
    (8, 0.5, 0.05),
    (32, 0.5, 0.05),
)


@dataclass(frozen=True)
class Measured:
    """Bounds and measurements of one case.

    Attributes:
        stated: Smallest width above the bound as the theorem states it.
        corrected: The same with d degrees of freedom.
        sharp: Smallest width at which the exact probability exceeds 1 - delta.
        width: Smallest width at which the share of networks with a neuron to drop exceeds 1 - delta.
        at_stated: That share at the stated width.
        at_corrected: That share at the corrected width.
    """

    stated: int
    corrected: int
    sharp: int
    width: int
    at_stated: float
    at_corrected: float


def bound(degrees: int, eps: float, delta: float) -> int:
    """Return the smallest width m > ln(delta) / ln(P(chi2(degrees) >= eps^2))."""
    return int(np.log(delta) / np.log1p(-chi2.cdf(eps**2, degrees))) + 1


def probability(m: int, d: int, eps: float) -> float:
    """Return the probability of a neuron among m that can be dropped at a cost below eps."""
    return float(-np.expm1(m * chi2.logsf(m * eps**2, d)))


def sharp(d: int, eps: float, delta: float) -> int:
    """Return the smallest width at which that probability exceeds 1 - delta."""
    return smallest(lambda m: probability(m, d, eps) > 1 - delta)


def smallest(holds: Callable[[int], bool]) -> int:
    """Return the smallest positive number for which something holds that holds for all larger ones."""
    high = 1
    while not holds(high):
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def first_widths(d: int, eps: float, widest: int, networks: int = NETWORKS, seed: int = 0) -> npt.NDArray[np.int64]:
    """Return the smallest width of every random network with a neuron that can be dropped; widest + 1 if there is none.

    A network of width m has the first m of ``widest`` rows, over sqrt(m). The shortest row gets shorter with m, and the
    scale too, so that a network which has such a neuron has one at all larger widths.
    """
    generator = np.random.default_rng(seed)
    widths = np.arange(1, widest + 1)
    first = []
    for start in range(0, networks, AT_ONCE):
        rows = generator.standard_normal((min(AT_ONCE, networks - start), widest, d))
        shortest = np.minimum.accumulate(np.linalg.norm(rows, axis=2), axis=1) / np.sqrt(widths)
        first.append(widest + 1 - (shortest < eps).sum(axis=1))
    return np.concatenate(first)


def measure(d: int, eps: float, delta: float, networks: int = NETWORKS, seed: int = 0) -> Measured:
    """Compare the bounds with random networks; those wider than four sharp widths are judged at that width."""
    stated, corrected, exact = bound(d - 1, eps, delta), bound(d, eps, delta), sharp(d, eps, delta)
    first = first_widths(d, eps, 4 * exact, networks, seed)

    def share(m: int) -> float:
        return float((first <= min(m, 4 * exact)).mean())

    width = smallest(lambda m: share(m) > 1 - delta)
    return Measured(stated, corrected, exact, width, share(stated), share(corrected))


def draw(path: str) -> None:
    """Draw probabilities over widths: measured, exact, and where the two bounds are."""
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.4), sharey=True, layout="constrained")
    eps, delta = 0.5, 0.05
    for axis, d in zip(axes, (2, 4, 8), strict=True):
        widths = np.arange(1, 4 * sharp(d, eps, delta) + 1)
        first = first_widths(d, eps, int(widths[-1]))
        axis.plot(widths, [(first <= m).mean() for m in widths], ".", color="#2f6db5", label="measured")
        axis.plot(widths, [probability(int(m), d, eps) for m in widths], color="#1f2933", label="1 - Q(m eps²)^m")
        axis.axvline(bound(d - 1, eps, delta), color="#d9822b", linestyle=":", label="bound as stated")
        axis.axvline(bound(d, eps, delta), color="#d9822b", label="bound, d degrees")
        axis.axhline(1 - delta, color="#e4e7eb", zorder=0)
        axis.set(title=f"{d} inputs, eps {eps:g}", xlabel="neurons", xscale="log")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("networks with a neuron to drop")
    axes[2].legend(frameon=False, fontsize=8, loc="center")
    figure.savefig(path, dpi=100)


def short(width: int) -> str:
    return f"{width:,}" if width < 1e9 else f"{width:.1e}"


def main(path: str | None = None) -> None:
    print(f"{NETWORKS:,} random networks each; shares are those with a neuron that can be dropped")
    print(f"{'':16}  {'as stated (d - 1)':>19}  {'with d degrees':>19}  {'sharp':>6}  {'measured':>8}")
    print(f"{'d':>3} {'eps':>5} {'delta':>6}" + 2 * f"  {'width':>10} {'share':>8}" + f"  {'width':>6}  {'width':>8}")
    for d, eps, delta in CASES:
        measured = measure(d, eps, delta)
        bounds = ((measured.stated, measured.at_stated), (measured.corrected, measured.at_corrected))
        cells = "".join(f"  {short(width):>10} {share:>8.2%}" for width, share in bounds)
        print(f"{d:>3} {eps:>5g} {delta:>6g}{cells}  {measured.sharp:>6,}  {measured.width:>8,}")
    if path is not None:
        draw(path)


if __name__ == "__main__":
    main(*sys.argv[1:])
