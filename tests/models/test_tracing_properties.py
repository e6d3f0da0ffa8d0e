"""Search units of random networks: whatever is found can be removed, and nothing is found where places are constant."""

from __future__ import annotations

from collections.abc import Callable

import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from supertickets.models.tracing import trace_units
from supertickets.models.tracing.selfcheck import cut_tensors, enliven, largest_difference, silence_units

SIDE = 6
Layers = Callable[[Tensor], Tensor]


class SqueezeExcite(nn.Module):
    """Scales every channel by what all channels hold."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.reduce, self.expand = nn.Conv2d(width, 3, 1), nn.Conv2d(3, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.expand(self.reduce(x.mean((2, 3), keepdim=True)).relu()).sigmoid()


class Step(nn.Module):
    """A step of a random network, of an even width, which it keeps if its name does not say otherwise."""

    def __init__(self, kind: str, width: int) -> None:
        super().__init__()
        self.kind = kind
        self.norm, self.squeeze, self.prelu = nn.BatchNorm2d(width), SqueezeExcite(width), nn.PReLU(width)
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.grouped = nn.Conv2d(width, width, 3, padding=1, groups=2)
        self.depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False)
        self.reduce = nn.Conv2d(width, width // 2, 1)
        self.widen = nn.Conv2d(width // 2, width, 1)
        self.three = nn.Conv2d(3, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return STEPS[self.kind](self, x)


def shuffle(x: Tensor) -> Tensor:
    batch, channels, height, width = x.shape
    return x.view(batch, 2, channels // 2, height, width).transpose(1, 2).reshape(x.shape)


STEPS: dict[str, Callable[[Step, Tensor], Tensor]] = {
    "convolution": lambda s, x: s.norm(s.conv(x)).relu(),
    "no norm": lambda s, x: nn.functional.silu(s.conv(x)),
    "sum": lambda s, x: x + s.norm(s.conv(x)),
    "depthwise": lambda s, x: s.norm(s.depthwise(x)).relu(),
    "groups": lambda s, x: s.prelu(s.grouped(x)),
    "concat": lambda s, x: torch.cat([s.reduce(x), s.reduce(x.relu())], 1),
    "gate": lambda s, x: s.widen((parts := x.chunk(2, 1))[0] * parts[1].sigmoid()),
    "parts": lambda s, x: torch.cat([(parts := x.chunk(2, 1))[0], parts[1].relu()], 1),
    "squeeze": lambda s, x: s.squeeze(x),
    "shuffle": lambda s, x: shuffle(x),
    "pool": lambda s, x: nn.functional.max_pool2d(x, 3, 1, 1),
    "shift": lambda s, x: (x + 1).relu(),
    "first three": lambda s, x: s.three(x[:, :3]) + s.conv(x),
    "even": lambda s, x: s.widen(x[:, ::2]) + s.conv(x),
    "rows": lambda s, x: s.widen(x.view(len(x), -1, 2, *x.shape[2:]).amax(2)),
    "roll": lambda s, x: x + x.roll(1, 1),
}
steps = st.lists(st.tuples(st.sampled_from(sorted(STEPS)), st.booleans()), min_size=1, max_size=4)


def build(program: list[tuple[str, bool]], width: int) -> nn.Module:
    """A network of steps; behind those whose flag is set, a convolution brings forth new units."""
    layers: list[nn.Module] = [nn.Conv2d(3, width, 3, padding=1)]
    for kind, separate in program:
        layers.append(Step(kind, width))
        if separate:
            layers += [nn.Conv2d(width, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(width, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))


@settings(deadline=None, max_examples=40)
@example([("first three", True)], 4, 0, 0.5)  # where two inner units pass as two of three
@given(steps, st.sampled_from([4, 6, 8]), st.integers(0, 2**16), st.floats(0.1, 0.9))
def test_removing_silent_units_changes_nothing(
    program: list[tuple[str, bool]], width: int, seed: int, share: float
) -> None:
    units = trace_units(lambda: build(program, width), (3, SIDE, SIDE))
    assert any(group.size == 4 for group in units.groups)  # the last convolution's, whatever is before it
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    module = build(program, width).eval().double()
    enliven(module, generator)
    keep = {group.name: torch.rand(len(group), generator=generator) < share for group in units.groups}
    for flags in keep.values():
        flags[int(torch.randint(len(flags), (), generator=generator))] = True
    silent = silence_units(module.state_dict(), units.groups, keep)
    images = torch.randn(2, 3, SIDE, SIDE, generator=generator, dtype=torch.float64)
    narrow = cut_tensors(silent, units.groups, keep)
    assert largest_difference(module, silent, narrow, images) < 1e-6
    if not all(bool(flags.all()) for flags in keep.values()):
        assert sum(map(torch.numel, narrow.values())) < sum(map(torch.numel, silent.values()))
