"""Controllers, which sample connection schemes and tell how likely they were: by block, or each given those before.

Shapes: S schemes, M blocks.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_HIDDEN, _INPUTS = 50, 20  # of the controller whose blocks are independent (released code)
_MEMORY = 100  # of the recurrent one
_FIRST = 2  # what stands before the first answer, beside 0 and 1


class Controller(nn.Module):
    """Two logits per block, from an input of zeros, divided by a temperature."""

    def __init__(self, blocks: int, temperature: float) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(_INPUTS, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, 2 * blocks)).double()
        self.temperature = temperature

    def forward(self) -> Tensor:
        """Return log-probabilities of no connection and of a connection, (M, 2)."""
        logits = self.body(torch.zeros(_INPUTS, dtype=torch.float64)) / self.temperature
        return torch.log_softmax(logits.unflatten(0, (-1, 2)), dim=1)

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw schemes, bool (S, M)."""
        chances = self().detach()[:, 1].exp().expand(count, -1)
        return torch.bernoulli(chances, generator=generator).bool()

    def answers(self, schemes: Tensor) -> Tensor:
        """Return the log-probability of every answer, (S, M)."""
        log_p = self()
        return torch.where(schemes, log_p[:, 1], log_p[:, 0])


class RecurrentController(nn.Module):
    """An LSTM cell that reads the answer for a block before it gives the next (ENAS; Pham et al., 2018)."""

    def __init__(self, blocks: int, temperature: float) -> None:
        super().__init__()
        self.blocks, self.temperature = blocks, temperature
        self.embedding = nn.Embedding(3, _MEMORY).double()
        self.cell = nn.LSTMCell(_MEMORY, _MEMORY).double()
        self.logits = nn.Linear(_MEMORY, 2).double()

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw schemes, bool (S, M)."""
        with torch.no_grad():
            return self._run(count, None, generator)[0]

    def answers(self, schemes: Tensor) -> Tensor:
        """Return the log-probability of every answer given those before, (S, M)."""
        return self._run(len(schemes), schemes, None)[1]

    def _run(self, count: int, given: Tensor | None, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Return schemes, given or drawn, and the log-probabilities of their answers."""
        answer, state = torch.full((count,), _FIRST), None
        drawn, likely = [], []
        for block in range(self.blocks):
            state = self.cell(self.embedding(answer), state)
            log_p = F.log_softmax(self.logits(state[0]) / self.temperature, dim=1)
            answer = torch.multinomial(log_p.exp(), 1, generator=generator)[:, 0] if given is None else given[:, block]
            answer = answer.long()
            drawn.append(answer.bool())
            likely.append(log_p.gather(1, answer[:, None])[:, 0])
        return torch.stack(drawn, dim=1), torch.stack(likely, dim=1)
