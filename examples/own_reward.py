"""Steer a policy search by a reward of your own: a function of quality and cost.

Run ``python examples/own_reward.py``, with settings behind it if you like: ``--epochs 20``. The command line takes the
function too: ``PYTHONPATH=examples supertickets search RECIPE --policy.reward own_reward:no_credit``.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from torch import Tensor

import supertickets as st

OUT = Path("runs/own_reward")
# The recipe digits shrinks and prunes in the course of its epochs, which a policy search does not.
PLAIN = "--search.interval 0 --search.last_epoch null --prune.ratio 0"
# A small space on the handwritten digits that come with the package.
SPACE = "--supernet.name tunas_proxyless --supernet.settings.width 0.1 --supernet.settings.strides [1,1,2,1,1,1,2,1,1]"
QUICK = "--epochs 4 --threads 1 --data.limit 96 --data.batch 32 --data.validation 0.5 --policy.images 8 --policy.lr 0.3"


def no_credit(quality: Tensor, cost: Tensor, target: float, beta: float) -> Tensor:
    """Reward Q + beta max(0, T / T0 - 1): what is cheaper than the target is neither better nor worse for it.

    Args:
        quality: Quality Q of sampled networks, from 0 to 1.
        cost: Their costs T.
        target: Target T0 in the unit of the cost.
        beta: Setting ``policy.beta``, negative.
    """
    return quality + beta * (cost / target - 1).clamp(min=0)


no_credit.has_slope = True  # type: ignore[attr-defined]  # a quality that gains more than -beta is warned of


def main() -> None:
    """Search for a network of at most 300,000 MACs, or nearly."""
    shutil.rmtree(OUT, ignore_errors=True)
    own = ["--policy.reward", "own_reward:no_credit", "--policy.beta", "-0.5", "--budget.macs", "3e5"]
    words = [*SPACE.split(), *PLAIN.split(), *QUICK.split(), *own, *sys.argv[1:]]
    ticket = st.search(st.load_recipe("digits", words), OUT)
    print(f"chosen: {ticket.cost.macs:,} MACs, validation accuracy {ticket.about['validation']['top1']:.0f}%")


if __name__ == "__main__":
    main()
