"""PyTorch's optimisers without their classes are the same, and spare a worker the import of PyTorch's compiler."""

import copy
import subprocess
import sys

import pytest
import torch
from torch import nn

from dropkit.study.experiment import OPTIMIZERS, Experiment
from dropkit.study.objectives import optimizer_of
from dropkit.study.optimizers import SGD, Adam, AdamW, Functional, RMSprop
from dropkit.study.recipe import Recipe

PEERS = {"adam": lambda parameters, **options: torch.optim.Adam(parameters, fused=True, **options),
         "adamw": lambda parameters, **options: torch.optim.AdamW(parameters, fused=True, **options),
         "sgd": lambda parameters, **options: torch.optim.SGD(parameters, momentum=0.9, fused=True, **options),
         "rmsprop": torch.optim.RMSprop}


def copies(*sizes):
    ours = [nn.Parameter(torch.randn(3, size, generator=torch.Generator().manual_seed(size))) for size in sizes]
    return ours, [nn.Parameter(parameter.detach().clone()) for parameter in ours]


def made(kind, parameters, **options):
    return optimizer_of(Experiment(data="iris", optimizer=kind, lr=0.05, **options), nn.ParameterList(parameters))


def test_every_kind_has_a_peer_here():
    assert PEERS.keys() == set(OPTIMIZERS)


@pytest.mark.parametrize("decay", [0.0, 0.01])
@pytest.mark.parametrize(("kind", "late"), [*((kind, 0) for kind in PEERS), ("adam", 5), ("adamw", 5), ("rmsprop", 5)])
def test_it_is_torchs_to_the_bit(kind, late, decay):
    """One parameter has its first gradient late, one never has any."""
    ours, theirs = copies(7, 33, 5)
    mine, known = made(kind, ours, weight_decay=decay), PEERS[kind](theirs, lr=0.05, weight_decay=decay)
    assert isinstance(mine, Functional)
    for step in range(12):
        for parameters, optimizer in ((ours, mine), (theirs, known)):
            optimizer.zero_grad()
            loss = parameters[0].square().sum() + (parameters[1].sin().sum() if step >= late else 0.0)
            loss.backward()
            optimizer.step()
        assert all(map(torch.equal, ours, theirs))


def test_sgd_takes_a_late_gradient():
    """As of a block that stochastic depth left out at first; PyTorch's fused class fails there, its other one is the peer."""
    ours, theirs = copies(7, 33)
    mine, known = made("sgd", ours), torch.optim.SGD(theirs, lr=0.05, momentum=0.9)
    for step in range(12):
        for parameters, optimizer in ((ours, mine), (theirs, known)):
            optimizer.zero_grad()
            (parameters[0].square().sum() + (parameters[1].sin().sum() if step > 4 else 0.0)).backward()
            optimizer.step()
    for mine_, known_ in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine_, known_)


@pytest.mark.parametrize("kind", PEERS)
def test_complex_weights_are_left_to_torch(kind):
    """As Fourier layers have them."""
    weight = nn.Parameter(torch.ones(3, dtype=torch.complex64))
    optimizer = made(kind, [weight])
    for _ in range(20):
        optimizer.zero_grad()
        before = (weight - 1j).abs().square().sum()
        before.backward()
        optimizer.step()
    assert (weight - 1j).abs().square().sum() < before


@pytest.mark.parametrize("kind", PEERS)
def test_a_bound_on_the_weights_acts_after_each_step(kind):
    model = nn.Linear(4, 3)
    optimizer = optimizer_of(Experiment(data="iris", optimizer=kind), model, Recipe(max_norm=0.1))
    assert isinstance(optimizer, Functional)
    optimizer.step()
    assert float(model.weight.detach().norm(dim=1).max()) <= 0.1 * (1 + 1e-6)


def test_a_step_without_gradients_changes_nothing():
    weight = nn.Parameter(torch.ones(2))
    optimizer = Adam([weight], lr=0.1)
    optimizer.step()
    assert weight.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("kind", [Adam, AdamW, SGD, RMSprop])
def test_it_goes_on_from_its_state_to_the_bit(kind):
    ours, copied = ([nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(2))] for _ in range(2))
    whole = kind(ours, lr=0.1, weight_decay=0.1)

    def go_on(parameters, optimizer):
        optimizer.zero_grad()
        (parameters[0] ** 3).sum().backward()
        optimizer.step()

    for _ in range(3):
        go_on(ours, whole)
    state = whole.state_dict()
    for mine, theirs in zip(copied, ours, strict=True):
        mine.data.copy_(theirs.data)
    again = kind(copied, lr=0.1, weight_decay=0.1)
    again.load_state_dict(copy.deepcopy(state))
    for _ in range(3):
        go_on(ours, whole)
        go_on(copied, again)
    assert all(map(torch.equal, ours, copied))


@pytest.mark.parametrize("state", [{}, {"state": {}, "param_groups": []}, {"parameters": 2, "averages": {}},
                                   {"parameters": 1, "averages": {0: (torch.ones(3),)}},
                                   {"parameters": 1, "averages": {0: (torch.ones(4), torch.ones(4), torch.ones(()))}}])
def test_a_state_of_other_parameters_is_refused(state):
    with pytest.raises(ValueError, match="other parameters"):
        Adam([nn.Parameter(torch.ones(3))], lr=0.1).load_state_dict(state)


@pytest.mark.parametrize("kind", [Adam, AdamW, SGD, RMSprop])
def test_sparse_gradients_are_refused(kind):
    table = nn.Embedding(4, 2, sparse=True)
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match="sparse=False"):
        kind(table.parameters(), lr=0.1).step()


def test_a_study_spares_its_driver_the_compiler(tmp_path):
    """The choice of the way takes trial steps in the driver."""
    script = f"""
import sys
import dropkit as dk
if __name__ == "__main__":
    for fused, kind in (("auto", "adam"), (False, "sgd")):
        experiment = dk.Experiment(data="iris", epochs=1, optimizer=kind)
        dk.study(experiment, seeds=2, fused=fused, out=r"{tmp_path}" + str(fused), progress=False)
    print("torch._dynamo" in sys.modules)
"""
    (tmp_path / "script.py").write_text(script)
    found = subprocess.run([sys.executable, tmp_path / "script.py"], capture_output=True, check=True)
    assert found.stdout == b"False\n"


def test_runs_import_neither_the_compiler_nor_what_read_the_data():
    """Each would cost every worker two seconds."""
    script = """
import sys
from dropkit.study.experiment import Experiment
from dropkit.study.prepare import prepare
from dropkit.study.worker import dump, handed_over, read
from dropkit.study.fused import train_fused
from dropkit.study.training import train
if len(sys.argv) > 1:
    ready = read(sys.stdin.buffer.read())
    train_fused(ready, [(arm, 0) for arm in ready.arms])
    train(ready, ready.arms[-1], 1)
    print([name for name in ("sklearn", "torch._dynamo") if name in sys.modules])
else:
    experiment = Experiment(data="iris", epochs=1)
    sys.stdout.buffer.write(dump(experiment, None, handed_over(prepare(experiment))))
"""
    packed = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    found = subprocess.run([sys.executable, "-c", script, "worker"], input=packed.stdout, capture_output=True, check=True)
    assert found.stdout == b"[]\n"
