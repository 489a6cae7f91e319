"""How others do Monte-Carlo dropout: the usual loop, one large batch, and the wrappers of torch-uncertainty and baal."""

from __future__ import annotations

import copy
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

PEERS = Path(__file__).resolve().parent / ".peers"
Make = Callable[[nn.Module, Tensor, int], Callable[[], Any]]

_DROPS = (nn.modules.dropout._DropoutNd, nn.MultiheadAttention, nn.TransformerEncoderLayer)


def loop(model: nn.Module, x: Tensor, passes: int) -> Callable[[], Any]:
    """What drops is set to training mode, one forward a pass, the outputs are stacked."""
    def run() -> tuple[Tensor, Tensor]:
        for module in model.modules():
            module.training = isinstance(module, _DROPS)
        with torch.no_grad():
            outputs = torch.stack([model(x) for _ in range(passes)])
        model.eval()
        return outputs.mean(0), outputs.var(0)

    return run


def repeated(model: nn.Module, x: Tensor, passes: int) -> Callable[[], Any]:
    """All passes in one forward of a batch that repeats every example."""
    def run() -> tuple[Tensor, Tensor]:
        for module in model.modules():
            module.training = isinstance(module, _DROPS)
        with torch.no_grad():
            outputs = model(x.repeat(passes, *[1] * (x.dim() - 1))).unflatten(0, (passes, -1))
        model.eval()
        return outputs.mean(0), outputs.var(0)

    return run


def installed() -> dict[str, Make]:
    """Return the wrappers that `peers.sh` has installed, and say which are missing."""
    if str(PEERS) not in sys.path:
        sys.path.append(str(PEERS))  # last: nothing here hides what the environment has
    found: dict[str, Make] = {}
    for name, make in (("torch-uncertainty", _torch_uncertainty), ("baal", _baal)):
        try:
            found[name] = make()
        except ImportError as error:
            print(f"left out: {name} is not installed ({error}); benchmarks/peers.sh installs it", file=sys.stderr)
    return found


def _torch_uncertainty() -> Make:
    spec = importlib.util.find_spec("torch_uncertainty")
    if spec is None or spec.origin is None:
        raise ImportError("no module named 'torch_uncertainty'")
    # Its file alone: the package imports Lightning and more, which the wrapper does not use.
    alone = importlib.util.spec_from_file_location("mc_dropout_of_peer", Path(spec.origin).parent / "methods" / "mc_dropout.py")
    module = importlib.util.module_from_spec(alone)
    alone.loader.exec_module(module)

    def make(model: nn.Module, x: Tensor, passes: int) -> Callable[[], Any]:
        wrapped = module.mc_dropout(copy.deepcopy(model), passes, on_batch=True).eval()

        def run() -> tuple[Tensor, Tensor]:
            with torch.no_grad():
                outputs = wrapped(x).unflatten(0, (passes, -1))
            return outputs.mean(0), outputs.var(0)

        return run

    return make


def _baal() -> Make:
    from baal.bayesian.dropout import patch_module
    from baal.modelwrapper import ModelWrapper, TrainingArgs

    def make(model: nn.Module, x: Tensor, passes: int) -> Callable[[], Any]:
        wrapper = ModelWrapper(patch_module(copy.deepcopy(model), inplace=True).eval(), TrainingArgs(use_cuda=False))

        def run() -> tuple[Tensor, Tensor]:
            outputs = wrapper.predict_on_batch(x, iterations=passes)
            return outputs.mean(-1), outputs.var(-1)

        return run

    return make
