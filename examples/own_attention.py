"""Search which blocks of a ResNet keep an attention module of your own.

Example: python examples/own_attention.py [runs/own_attention]

The recipe names the class as ``own_attention:StyleAttention``: this file's name, a colon, the class's. Python finds the
file because the folder of a script is on its path; from elsewhere, add the folder to PYTHONPATH.
"""

import sys

import torch
from torch import Tensor, nn

import supertickets as st


class StyleAttention(nn.Module):
    """Scales every channel by a gate that sees its mean and its deviation (after Lee et al., 2019)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels, 2))
        self.norm = nn.BatchNorm1d(channels)

    def forward(self, maps: Tensor) -> Tensor:
        style = torch.stack((maps.mean((2, 3)), maps.std((2, 3), correction=0)), dim=2)
        gate = torch.sigmoid(self.norm((style * self.weight).sum(2)))
        return maps * gate[:, :, None, None]


def main() -> None:
    out = sys.argv[1] if len(sys.argv) > 1 else "runs/own_attention"
    words = ["--supernet.name", "resnet38", "--supernet.settings.attention", "own_attention:StyleAttention"]
    words += ["--supernet.settings.widths", "[4, 4, 4]", "--epochs", "2", "--data.limit", "256", "--prune.ratio", "0"]
    words += ["--search.interval", "0", "--search.last_epoch", "null", "--connect.steps", "20"]
    ticket = st.search(st.load_recipe("digits", words), out)
    print(f"{ticket.spec.attention} is connected on {ticket.spec.scheme}")
    again = st.load(out, trust=("own_attention",))
    assert torch.equal(again.module(torch.zeros(1, 1, 8, 8)), ticket.module(torch.zeros(1, 1, 8, 8)))


if __name__ == "__main__":
    main()
