"""The example on Theorem 1 of LTH4SA: the exact probability, the bounds, and what random networks say of them."""

from __future__ import annotations

import math
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import chi2

EXAMPLE: dict[str, Any] = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "droppable_neuron.py"))


def test_a_neuron_changes_the_output_by_at_most_its_row() -> None:
    generator = np.random.default_rng(0)
    d, m = 3, 6
    rows, signs = generator.normal(0, m**-0.5, (m, d)), generator.choice((-1.0, 1.0), m)
    lengths = np.linalg.norm(rows, axis=1)
    x = generator.standard_normal((d, 2000))
    x = np.concatenate((x / np.maximum(np.linalg.norm(x, axis=0), 1), (rows / lengths[:, None]).T), axis=1)
    for j in range(m):
        without = np.delete(np.arange(m), j)
        change = signs @ np.maximum(rows @ x, 0) - signs[without] @ np.maximum(rows[without] @ x, 0)
        assert np.abs(change).max() == pytest.approx(lengths[j])  # reached at w_j / |w_j|


def test_the_bound_by_hand() -> None:
    """With two degrees, P(chi2 >= eps^2) = exp(-eps^2 / 2), so that the bound is 2 ln(1 / delta) / eps^2."""
    assert EXAMPLE["bound"](2, 0.5, 0.05) == math.floor(2 * math.log(20) / 0.25) + 1 == 24
    assert EXAMPLE["probability"](5, 2, 0.5) == pytest.approx(1 - math.exp(-(0.25 * 5 / 2) * 5))
    assert EXAMPLE["sharp"](2, 0.5, 0.05) == math.floor(math.sqrt(2 * math.log(20)) / 0.5) + 1 == 5


@pytest.mark.parametrize(("d", "eps", "delta"), [(2, 0.5, 0.05), (2, 2.0, 0.05), (3, 0.8, 0.2), (4, 0.5, 0.02)])
def test_with_d_degrees_the_bound_holds(d: int, eps: float, delta: float) -> None:
    measured = EXAMPLE["measure"](d, eps, delta, networks=2000)
    assert measured.at_corrected > 1 - delta
    assert measured.sharp <= measured.corrected
    assert abs(measured.width - measured.sharp) <= 1  # 2,000 networks
    noise = 4 * math.sqrt(delta / 2000)
    first = EXAMPLE["first_widths"](d, eps, 4 * measured.sharp, 2000)
    for m in (measured.sharp, 2 * measured.sharp):
        assert (first <= m).mean() == pytest.approx(EXAMPLE["probability"](m, d, eps), abs=noise)


def test_as_stated_the_bound_fails() -> None:
    """One neuron with two inputs is said to be short enough with 95%; it is with 1 - exp(-2)."""
    measured = EXAMPLE["measure"](2, 2.0, 0.05, networks=2000)
    assert measured.stated == 1
    assert measured.at_stated == pytest.approx(1 - math.exp(-2), abs=0.03)
    assert measured.at_stated < 0.95
    # And its proof, which needs a row below eps / sqrt(m), fails at other widths too.
    m = EXAMPLE["bound"](1, 0.5, 0.05)
    assert 1 - chi2.sf(0.25, 2) ** m < 0.95 < 1 - chi2.sf(0.25, 2) ** EXAMPLE["bound"](2, 0.5, 0.05)


def test_the_table_and_the_drawing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    EXAMPLE["main"](str(tmp_path / "widths.png"))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 + len(EXAMPLE["CASES"])
    assert lines[4].split() == ["2", "0.5", "0.05", "7", lines[4].split()[4], "24", "100.00%", "5", "5"]
    assert (tmp_path / "widths.png").stat().st_size > 5000
