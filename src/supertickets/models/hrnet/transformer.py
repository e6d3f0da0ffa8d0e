"""The lightweight Transformer path of HR-NAS: global context through a few searchable tokens.

Shapes: B batch, C channels, H x W the feature map, n tokens, g the grid's side, E = g * g the embedding.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..resize import resize


class Attention(nn.Module):
    """Scaled dot-product attention with one head; a module of its own, so that its MACs have a row of their own."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout

    def forward(self, query_BnE: Tensor, key_BnE: Tensor, value_BnE: Tensor) -> Tensor:
        dropout = self.dropout if self.training else 0.0
        query, key, value = (t.unsqueeze(1) for t in (query_BnE, key_BnE, value_BnE))
        return F.scaled_dot_product_attention(query, key, value, dropout_p=dropout).squeeze(1)


class FeedForward(nn.Module):
    """Post-norm residual feed-forward layer, E -> E -> E without bias."""

    def __init__(self, embedding: int, dropout: float) -> None:
        super().__init__()
        self.up = nn.Linear(embedding, embedding, bias=False)
        self.down = nn.Linear(embedding, embedding, bias=False)
        self.norm = nn.LayerNorm(embedding)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_BnE: Tensor) -> Tensor:
        hidden = self.dropout(F.relu(self.up(x_BnE)))
        return self.norm(x_BnE + self.dropout(self.down(hidden)))


class Encoder(nn.Module):
    """One post-norm layer of self-attention over the tokens."""

    def __init__(self, embedding: int, dropout: float) -> None:
        super().__init__()
        self.qkv = nn.Linear(embedding, 3 * embedding, bias=False)
        self.attend = Attention(dropout)
        self.out = nn.Linear(embedding, embedding, bias=False)
        self.norm = nn.LayerNorm(embedding)
        self.dropout = nn.Dropout(dropout)
        self.feed = FeedForward(embedding, dropout)

    def forward(self, x_BnE: Tensor) -> Tensor:
        mixed = self.out(self.attend(*self.qkv(x_BnE).chunk(3, dim=-1)))
        return self.feed(self.norm(x_BnE + self.dropout(mixed)))


class Decoder(nn.Module):
    """One post-norm layer of cross-attention: learned queries read the memory.

    The residual is taken from the memory, not from the query (as HR-NAS does), so there is one query per token.
    """

    def __init__(self, embedding: int, dropout: float) -> None:
        super().__init__()
        self.query = nn.Linear(embedding, embedding, bias=False)
        self.key_value = nn.Linear(embedding, 2 * embedding, bias=False)
        self.attend = Attention(dropout)
        self.out = nn.Linear(embedding, embedding, bias=False)
        self.norm = nn.LayerNorm(embedding)
        self.dropout = nn.Dropout(dropout)
        self.feed = FeedForward(embedding, dropout)

    def forward(self, queries_nE: Tensor, memory_BnE: Tensor) -> Tensor:
        query = self.query(queries_nE.expand(memory_BnE.shape[0], -1, -1))
        mixed = self.out(self.attend(query, *self.key_value(memory_BnE).chunk(2, dim=-1)))
        return self.feed(self.norm(memory_BnE + self.dropout(mixed)))


class TokenPath(nn.Module):
    """x + Transformer(x): pool to a g x g grid, project to n tokens, encode, decode, project back, resize.

    The scale of ``token_bn`` is the importance of the tokens (Sec. 3.1, SuperTickets). Reference for the layout:
    HR-NAS, "lightweight Transformer".
    """

    position: Tensor

    def __init__(self, channels: int, tokens: int, grid: int, dropout: float) -> None:
        super().__init__()
        self.grid = grid
        embedding = grid * grid
        self.to_tokens = nn.Conv2d(channels + 2, tokens, 1, bias=False)
        self.token_bn = nn.BatchNorm2d(tokens)
        self.encoder = Encoder(embedding, dropout)
        self.queries = nn.Parameter(torch.randn(tokens, embedding))
        self.decoder = Decoder(embedding, dropout)
        self.from_tokens = nn.Conv2d(tokens, channels, 1, bias=False)
        self.up_bn = nn.BatchNorm2d(channels)
        deviation = math.sqrt((grid**2 - 1) / 3) or 1.0
        axis = torch.tensor([(2 * i - grid + 1) / deviation for i in range(grid)])  # mean 0, deviation 1
        plane = torch.stack((axis.expand(grid, grid), axis[:, None].expand(grid, grid)))
        self.register_buffer("position", plane[None].contiguous(), persistent=False)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        batch, _, height, width = x_BCHW.shape
        pooled = resize(x_BCHW, self.grid, self.grid)
        tokens = self.token_bn(self.to_tokens(torch.cat((pooled, self.position.expand(batch, -1, -1, -1)), dim=1)))
        memory_BnE = self.encoder(tokens.flatten(2))
        out_BnE = self.decoder(self.queries, memory_BnE)
        grid_BngG = out_BnE.unflatten(2, (self.grid, self.grid))
        return x_BCHW + resize(self.up_bn(self.from_tokens(grid_BngG)), height, width)
