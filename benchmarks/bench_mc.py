"""Monte-Carlo dropout: `dk.mc_predict` beside one forward, a loop over passes, one large batch, and two peers.

``bash benchmarks/peers.sh`` installs the peers; without them their rows are left out.
"""

from __future__ import annotations

import multiprocessing
import resource
from collections.abc import Callable

import torch
from torch import Tensor, nn

import dropkit as dk
from harness import Bar, Case, compare, write
from mc_peers import Make, installed, loop, repeated

PASSES = 100
MANY = 50  # the default of mc_predict
BUDGET = 64  # MiB, its default


class Residual(nn.Module):
    """Two convolutions and a shortcut."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inside, outside, 3, stride, 1, bias=False), nn.BatchNorm2d(outside), nn.ReLU(),
            nn.Conv2d(outside, outside, 3, 1, 1, bias=False), nn.BatchNorm2d(outside))
        self.short = nn.Identity() if stride == 1 and inside == outside else nn.Conv2d(inside, outside, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Add the body to the shortcut."""
        return torch.relu(self.body(x) + self.short(x))


def head() -> tuple[nn.Module, Tensor]:
    """A residual network of 13 convolutions on 32 x 32 images with dropout in its head only, batch 32."""
    sizes = [(16, 16, 1), (16, 16, 1), (16, 32, 2), (32, 32, 1), (32, 64, 2), (64, 64, 1)]
    blocks = [Residual(*size) for size in sizes]
    trunk = nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    net = nn.Sequential(trunk, nn.Linear(64, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 10))
    return net.eval(), torch.randn(32, 3, 32, 32)


def everywhere() -> tuple[nn.Module, Tensor]:
    """Channel dropout in each of 8 convolutional blocks, batch 32."""
    blocks = [nn.Sequential(nn.Conv2d(16 if i else 3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Dropout2d(0.1))
              for i in range(8)]
    net = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))
    return net.eval(), torch.randn(32, 3, 32, 32)


def mlp() -> tuple[nn.Module, Tensor]:
    """Dropout before every layer, the input included, of an MLP of 256 units, batch 32."""
    layers: list[nn.Module] = []
    for _ in range(3):
        layers += [nn.Dropout(0.1), nn.Linear(256, 256), nn.ReLU()]
    return nn.Sequential(*layers, nn.Dropout(0.1), nn.Linear(256, 10)).eval(), torch.randn(32, 256)


def encoder() -> tuple[nn.Module, Tensor]:
    """Two transformer layers of width 64 on 32 positions, batch 8."""
    layer = nn.TransformerEncoderLayer(64, 4, 128, dropout=0.1, batch_first=True)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval(), torch.randn(8, 32, 64)


def once(model: nn.Module, x: Tensor) -> Callable[[], object]:
    """Return one forward in evaluation."""
    def run() -> object:
        with torch.no_grad():
            return model(x)

    return run


def cases() -> list[Case]:
    """Time the nets on one thread."""
    torch.manual_seed(0)
    peers = installed()
    net, x = head()
    ours = lambda: dk.mc_predict(net, x, PASSES)  # noqa: E731
    rivals = {"mc_predict": ours, "loop": loop(net, x, PASSES), "large batch": repeated(net, x, PASSES)}
    rivals |= {name: make(net, x, PASSES) for name, make in peers.items()}
    bars = tuple(Bar("mc_predict", name, 1 / 50) for name in rivals if name != "mc_predict")
    found = [compare(f"dropout in the head, {PASSES} passes", {"one forward": once(net, x), "mc_predict": ours},
                     (Bar("mc_predict", "one forward", 1.15),), seconds=20),
             compare(f"dropout in the head, {PASSES} passes, rivals", rivals, bars, seconds=20, least_rounds=3)]
    found.append(_in_all_layers(everywhere, MANY, {}))  # a batch of 1600 images is no rival
    return [*found, *(_in_all_layers(make, PASSES, peers) for make in (mlp, encoder))]


def _in_all_layers(make: Callable[[], tuple[nn.Module, Tensor]], passes: int, peers: dict[str, Make]) -> Case:
    model, data = make()
    rivals = {"loop": loop(model, data, passes), "mc_predict": lambda: dk.mc_predict(model, data, passes)}
    rivals |= {name: peer(model, data, passes) for name, peer in peers.items()}
    return compare(f"{make.__name__}, {passes} passes", rivals, (Bar("mc_predict", "loop", 1.0),), seconds=20, least_rounds=10)


def memory() -> str:
    """How far the peak of a process rises above one forward, in words."""
    context = multiprocessing.get_context("spawn")
    lines = []
    for name in ("head", "everywhere", "mlp", "encoder"):
        with context.Pool(1) as pool:
            forward, more = pool.apply(_peaks, (name,))
        lines.append(f"{name} {more:.0f} MiB (one forward: {forward:.0f})")
    return (f"Memory, by the peak of a fresh process over its size before the first call, {PASSES} passes within a budget of "
            f"{BUDGET} MiB: {', '.join(lines)}.")


def _peaks(name: str) -> tuple[float, float]:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    net, x = globals()[name]()
    dk.mc_predict(nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5)), torch.ones(4, 8), 9)  # code that is loaded when first used
    before = _peak()
    once(net, x)()
    forward = _peak()
    dk.mc_predict(net, x, PASSES)
    return forward - before, _peak() - before


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def wrong() -> list[str]:
    """What the peers answer where it is known: sentences about results, not times."""
    said = []
    net, x = encoder()
    for name, make in installed().items():
        variance = make(net, x, 10)()[1]
        said.append(f"{name} on the encoder: variance over passes {'is 0' if not variance.any() else 'is above 0'}")
    return said


if __name__ == "__main__":
    bars = "The bars of the second case are one fiftieth."
    measured = memory()  # first: a process begins with the peak of the one that started it
    write("Monte-Carlo dropout", "mc", cases(), "\n\n".join([bars, measured, *wrong()]))
