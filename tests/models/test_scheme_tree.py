"""All schemes of a ResNet, walked as a tree: equal to running them one by one, with fewer block runs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from supertickets.models import ResNet, create_resnet, outputs_of_all
from supertickets.nas import every_scheme

SMALL = {"widths": [4, 4, 8], "ratio": 4, "num_classes": 5, "image_size": (8, 8)}


def network(**overrides: Any) -> ResNet:
    torch.manual_seed(0)
    made = create_resnet("resnet38", **{**SMALL, **overrides}).build().eval()
    for norm in (m for m in made.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
    return made


@pytest.mark.parametrize(
    "overrides",
    [{"attention": "se"}, {"attention": "sge", "groups": 4}, {"attention": "dia", "sharing": "stage", "ratio": 4}],
)
@torch.no_grad()
def test_equal_to_one_after_the_other(overrides: dict[str, Any]) -> None:
    made, x = network(**overrides), torch.randn(2, 3, 8, 8)
    names = [decision.name for decision in made.spec.decisions()]
    outputs = dict(outputs_of_all(made, x))
    schemes = [tuple(row) for row in every_scheme(12).tolist()]
    assert list(outputs) == schemes
    for scheme in schemes[:: 4096 // 256]:
        torch.testing.assert_close(
            outputs[scheme], made(x, dict(zip(names, scheme, strict=True))), rtol=1e-4, atol=1e-5
        )


@torch.no_grad()
def test_blocks_that_schemes_share_run_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """2^12 - 1 branches, each joined with and without its module: 8,190 blocks instead of 12 * 2^12 = 49,152."""
    runs = {"branch": 0, "joined": 0}
    run_branch, join = ResNet.run_branch, ResNet.join

    def counted_branch(*args: Any) -> Any:
        runs["branch"] += 1
        return run_branch(*args)

    def counted_join(*args: Any, **words: Any) -> Any:
        runs["joined"] += 1
        return join(*args, **words)

    monkeypatch.setattr(ResNet, "run_branch", counted_branch)
    monkeypatch.setattr(ResNet, "join", counted_join)
    assert sum(1 for _ in outputs_of_all(network(attention="se"), torch.randn(1, 3, 8, 8))) == 4096
    assert runs == {"branch": 4095, "joined": 8190}


@torch.no_grad()
def test_blocks_that_are_not_connected_stay_so() -> None:
    made, x = network(attention="se", scheme="0110|0000|0001"), torch.randn(2, 3, 8, 8)
    outputs = dict(outputs_of_all(made, x))
    assert list(outputs) == [tuple(row) for row in every_scheme(3).tolist()]
    for scheme, scores in outputs.items():
        choices = dict(zip(("s1.b1", "s1.b2", "s3.b3"), scheme, strict=True))
        torch.testing.assert_close(scores, made(x, choices), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_connection_may_be_a_number() -> None:
    """0 and 1 are the plain and the scaled branch; what lies between is linear on the branch."""
    made, x = network(attention="se"), torch.randn(2, 16, 8, 8)
    branch, shortcut = made.run_branch("s1.b1", x)
    plain, scaled = (made.join("s1.b1", branch, shortcut, None, connected=flag)[0] for flag in (False, True))
    for share, wanted in ((0.0, plain), (1.0, scaled)):
        joined, _ = made.join("s1.b1", branch, shortcut, None, connected=torch.tensor(share))
        torch.testing.assert_close(joined, wanted)
    gate = made.attention_of("s1.b1")(branch, None)[0]
    joined, _ = made.join("s1.b1", branch, shortcut, None, connected=torch.tensor(0.25))
    torch.testing.assert_close(joined, torch.relu(0.25 * gate + 0.75 * branch + shortcut))
