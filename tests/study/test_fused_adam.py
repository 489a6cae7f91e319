"""Adam without its class is Adam, and spares a worker the import of PyTorch's compiler."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from dropkit.study.experiment import Experiment
from dropkit.study.fused_adam import Adam, stacked_optimizer


@pytest.mark.parametrize(("kind", "decay"), [("adam", 0.0), ("adam", 0.01), ("adamw", 0.01)])
def test_it_is_torchs_to_the_bit(kind, decay):
    """One parameter has its first gradient late, one never has any."""
    ours = [nn.Parameter(torch.randn(3, size, generator=torch.Generator().manual_seed(size))) for size in (7, 33, 5)]
    theirs = [nn.Parameter(parameter.detach().clone()) for parameter in ours]
    made = stacked_optimizer(Experiment(data="iris", optimizer=kind, lr=0.1, weight_decay=decay), ours)
    known = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[kind](theirs, lr=0.1, weight_decay=decay, fused=True)
    for step in range(12):
        for parameters, optimizer in ((ours, made), (theirs, known)):
            optimizer.zero_grad()
            loss = parameters[0].square().sum() + (parameters[1].sin().sum() if step > 4 else 0.0)
            loss.backward()
            optimizer.step()
        assert all(map(torch.equal, ours, theirs))


def test_a_step_without_gradients_changes_nothing():
    weight = nn.Parameter(torch.ones(2))
    optimizer = Adam([weight], lr=0.1, weight_decay=0.0, decoupled=False)
    optimizer.step()
    assert weight.tolist() == [1.0, 1.0]


def test_a_batch_of_runs_imports_neither_the_compiler_nor_what_read_the_data():
    """Each would cost every worker two seconds."""
    script = """
import sys
from dropkit.study.experiment import Experiment
from dropkit.study.prepare import prepare
from dropkit.study.worker import dump, handed_over, read
from dropkit.study.fused import train_fused
if len(sys.argv) > 1:
    ready = read(sys.stdin.buffer.read())
    train_fused(ready, [(arm, 0) for arm in ready.arms])
    print([name for name in ("sklearn", "torch._dynamo") if name in sys.modules])
else:
    experiment = Experiment(data="iris", epochs=1)
    sys.stdout.buffer.write(dump(experiment, None, handed_over(prepare(experiment))))
"""
    packed = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    found = subprocess.run([sys.executable, "-c", script, "worker"], input=packed.stdout, capture_output=True, check=True)
    assert found.stdout == b"[]\n"
