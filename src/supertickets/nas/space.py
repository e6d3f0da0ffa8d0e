"""Spaces of categorical decisions: their networks counted, drawn, listed, read and checked (TuNAS, Sec. 4).

A *genotype* names an answer for every decision that means anything, e.g. ``{"b2.0.kernel": 5}``: JSON. The released
code writes the same as a list with one index per decision, those that mean nothing included.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..errors import UserError
from ..models.base import Choice, Decision

Genotype = Mapping[str, Choice]


@dataclass(frozen=True)
class Space:
    """Decisions in the order of index lists; one that lies within another may come before it.

    Shapes of tensors: S samples, D decisions.

    Attributes:
        decisions: Decisions with unique names.
    """

    decisions: tuple[Decision, ...]

    @cached_property
    def places(self) -> dict[str, int]:
        """Return the index of every decision by name."""
        return {decision.name: i for i, decision in enumerate(self.decisions)}

    @cached_property
    def parents(self) -> list[tuple[int, int, int]]:
        """Return (decision, the one it lies within, the answer it needs there as an index), outer ones first."""
        links = []
        for i, decision in enumerate(self.decisions):
            if decision.within is not None:
                outer = self.places[decision.within[0]]
                links.append((i, outer, self.decisions[outer].options.index(decision.within[1])))
        return sorted(links, key=lambda link: self._depth(link[0]))

    def _depth(self, place: int) -> int:
        within = self.decisions[place].within
        return 0 if within is None else 1 + self._depth(self.places[within[0]])

    def encodings(self) -> int:
        """Return the number of index lists."""
        total = 1
        for decision in self.decisions:
            total *= len(decision.options)
        return total

    def networks(self) -> int:
        """Return the number of genotypes: what lies within an answer that was not given does not count."""
        return self._product([i for i, d in enumerate(self.decisions) if d.within is None])

    def _product(self, places: Sequence[int]) -> int:
        total = 1
        for place in places:
            options = range(len(self.decisions[place].options))
            total *= sum(self._product(self._inside(place, option)) for option in options)
        return total

    def _inside(self, place: int, option: int) -> list[int]:
        return [i for i, outer, needed in self.parents if (outer, needed) == (place, option)]

    def active(self, indices_SD: Tensor, averaged_SD: Tensor | None = None) -> Tensor:
        """Flag the decisions that mean anything, bool of the same shape.

        Args:
            indices_SD: Index lists.
            averaged_SD: Flags of decisions with all answers given at once, so that what lies within any of them means
                something.
        """
        flags = torch.ones_like(indices_SD, dtype=torch.bool)
        averaged = ~flags if averaged_SD is None else averaged_SD
        for place, outer, needed in self.parents:
            flags[:, place] = flags[:, outer] & ((indices_SD[:, outer] == needed) | averaged[:, outer])
        return flags

    def genotypes(self, indices_SD: Tensor) -> list[dict[str, Choice]]:
        """Name the answers that mean anything."""
        rows, flags = indices_SD.tolist(), self.active(indices_SD).tolist()
        return [
            {d.name: d.options[i] for d, i, on in zip(self.decisions, row, used, strict=True) if on}
            for row, used in zip(rows, flags, strict=True)
        ]

    def genotype(self, indices: Sequence[int]) -> dict[str, Choice]:
        """Read an index list.

        Raises:
            UserError: It is too long or short, or an index has no option.
        """
        if len(indices) != len(self.decisions):
            raise UserError(f"{len(indices)} indices for {len(self.decisions)} decisions; give one for each")
        for decision, index in zip(self.decisions, indices, strict=True):
            if not 0 <= index < len(decision.options):
                raise UserError(f"index {index} for {decision.name}, which has the options {list(decision.options)}")
        return self.genotypes(torch.tensor([list(indices)]))[0]

    def indices(self, genotype: Genotype) -> list[int]:
        """Write an index list, with 0 for what means nothing.

        Raises:
            UserError: The genotype lies outside of the space.
        """
        wrong = self.outside(genotype)
        if wrong:
            raise UserError(f"the network lies outside of the space: {'; '.join(wrong)}")
        return [
            d.options.index(genotype[d.name]) if d.name in genotype and _is_active(d, genotype) else 0
            for d in self.decisions
        ]

    def outside(self, genotype: Genotype) -> list[str]:
        """Return a line for every decision that a genotype answers wrongly; none if it lies within the space."""
        wrong = [f"there is no decision {name}" for name in genotype if name not in self.places]
        for decision in self.decisions:
            if decision.name in genotype:
                answer, options = genotype[decision.name], list(decision.options)
                if not any(answer == o and type(answer) is type(o) for o in options):  # True is no 1, 3.0 no 3
                    wrong.append(f"{decision.name} is {answer}, the options are {options}")
            elif _is_active(decision, genotype):
                wrong.append(f"{decision.name} is not answered")
        return wrong

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw index lists, every option of a decision equally likely; (count, D)."""
        columns = [torch.randint(len(d.options), (count,), generator=generator) for d in self.decisions]
        return torch.stack(columns, dim=1)

    def enumerate(self) -> Iterator[dict[str, Choice]]:
        """List all genotypes; for small spaces."""
        yield from self._all([i for i, d in enumerate(self.decisions) if d.within is None], {})

    def _all(self, places: list[int], given: dict[str, Choice]) -> Iterator[dict[str, Choice]]:
        if not places:
            yield given
            return
        place, *rest = places
        decision = self.decisions[place]
        for option, answer in enumerate(decision.options):
            yield from self._all(self._inside(place, option) + rest, {**given, decision.name: answer})


def _is_active(decision: Decision, genotype: Genotype) -> bool:
    return decision.within is None or genotype.get(decision.within[0]) == decision.within[1]
