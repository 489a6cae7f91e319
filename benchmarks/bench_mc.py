"""Monte-Carlo dropout: `dk.mc_predict` beside one forward and beside a loop over passes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

import dropkit as dk
from harness import Bar, Case, compare, write

PASSES = 100
FEW = 10  # passes of the loop that are timed where a hundred take long


def trunk(blocks: int = 8) -> nn.Sequential:
    """Convolutions of 16 channels on 32 x 32 images."""
    return nn.Sequential(*[nn.Sequential(nn.Conv2d(16 if i else 3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
                           for i in range(blocks)], nn.AdaptiveAvgPool2d(1), nn.Flatten())


def head() -> tuple[nn.Module, Tensor]:
    """Dropout in the head only, batch 32."""
    net = nn.Sequential(trunk(), nn.Linear(16, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 10))
    return net.eval(), torch.randn(32, 3, 32, 32)


def everywhere() -> tuple[nn.Module, Tensor]:
    """Channel dropout in every convolutional block, batch 32."""
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


def hand_written(model: nn.Module, x: Tensor, passes: int) -> Callable[[], object]:
    """Return the usual loop: what drops in training mode, one forward a pass, the outputs stacked."""
    drops = (nn.modules.dropout._DropoutNd, nn.MultiheadAttention, nn.TransformerEncoderLayer)

    def run() -> object:
        for module in model.modules():
            module.training = isinstance(module, drops)
        with torch.no_grad():
            outputs = torch.stack([model(x) for _ in range(passes)])
        model.eval()
        return outputs.mean(0), outputs.var(0)

    return run


def cases() -> list[Case]:
    """Time the nets on one thread."""
    torch.manual_seed(0)
    net, x = head()
    found = [compare(f"dropout in the head, {PASSES} passes", {
        "one forward": once(net, x), "mc_predict": lambda: dk.mc_predict(net, x, PASSES)},
        (Bar("mc_predict", "one forward", 1.15),), seconds=20),
        compare(f"dropout in the head, loop of {FEW} passes", {
            "mc_predict, 100 passes": lambda: dk.mc_predict(net, x, PASSES), "loop": hand_written(net, x, FEW)},
            (Bar("mc_predict, 100 passes", "loop", FEW / PASSES * PASSES / 50),), seconds=20, least_rounds=8)]
    for make, passes in ((everywhere, FEW), (mlp, PASSES), (encoder, PASSES)):
        found.append(_everywhere(make, passes))
    return found


def _everywhere(make: Callable[[], tuple[nn.Module, Tensor]], passes: int) -> Case:
    net, x = make()
    rivals = {"loop": hand_written(net, x, passes), "mc_predict": lambda: dk.mc_predict(net, x, passes),
              "mc_predict, loop": lambda: dk.mc_predict(net, x, passes, method="loop")}
    return compare(f"{make.__name__}, {passes} passes", rivals, (Bar("mc_predict", "loop", 1.0),), seconds=15, least_rounds=8)


if __name__ == "__main__":
    write("Monte-Carlo dropout", "mc", cases(), "The bar of the second case is the time of 100 passes of the loop over 50.")
