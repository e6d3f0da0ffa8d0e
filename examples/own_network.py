"""Prune and train a network of your own: a function that returns a plain module, named in the recipe.

Example: python examples/own_network.py [runs/own_network]

The recipe names the function as ``own_network:make_network``: this file's name, a colon, the function's. Python finds
the file because the folder of a script is on its path; from elsewhere, add the folder to PYTHONPATH.
"""

import sys

import torch
from torch import Tensor, nn

import supertickets as st


class SmallNetwork(nn.Module):
    """Two convolutions and a linear layer."""

    def __init__(self, num_classes: int, in_channels: int, width: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
        )
        self.classifier = nn.Linear(2 * width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.features(images).mean((2, 3)))


def make_network(num_classes: int, in_channels: int, image_size: tuple[int, int], width: int = 16) -> nn.Module:
    """Make the network; ``supernet.settings.width`` sets the last argument."""
    assert min(image_size) >= 4
    return SmallNetwork(num_classes, in_channels, width)


def main() -> None:
    out = sys.argv[1] if len(sys.argv) > 1 else "runs/own_network"
    words = ["--supernet.name", "own_network:make_network", "--supernet.settings.width", "12"]
    words += ["--search.interval", "0", "--search.last_epoch", "null"]  # it has no search units
    ticket = st.draw(st.load_recipe("digits", [*words, "--epochs", "8", "--prune.ratio", "0.8"]), out)
    zeros = sum(int((~flags).sum()) for flags in ticket.mask.values())
    print(f"{ticket.spec}: {zeros} of {ticket.cost.params} parameters are zero, {ticket.cost.masked_macs:,} MACs left")
    again = st.load(out, trust=("own_network",))
    assert torch.equal(again.module(torch.zeros(1, 1, 8, 8)), ticket.module(torch.zeros(1, 1, 8, 8)))


if __name__ == "__main__":
    main()
