"""Adam without its class is Adam, and spares a worker the import of PyTorch's compiler."""

import copy
import subprocess
import sys

import pytest
import torch
from torch import nn

from dropkit.study.adam import Adam
from dropkit.study.experiment import Experiment
from dropkit.study.objectives import optimizer_of


@pytest.mark.parametrize(("kind", "decay"), [("adam", 0.0), ("adam", 0.01), ("adamw", 0.01)])
def test_it_is_torchs_to_the_bit(kind, decay):
    """One parameter has its first gradient late, one never has any."""
    ours = [nn.Parameter(torch.randn(3, size, generator=torch.Generator().manual_seed(size))) for size in (7, 33, 5)]
    theirs = [nn.Parameter(parameter.detach().clone()) for parameter in ours]
    made = optimizer_of(Experiment(data="iris", optimizer=kind, lr=0.1, weight_decay=decay), nn.ParameterList(ours))
    assert isinstance(made, Adam)
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


def test_it_goes_on_from_its_state_to_the_bit():
    ours, copied = ([nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(2))] for _ in range(2))
    whole = Adam(ours, lr=0.1, weight_decay=0.1, decoupled=True)

    def go_on(parameters, optimizer):
        optimizer.zero_grad()
        (parameters[0] ** 3).sum().backward()
        optimizer.step()

    for _ in range(3):
        go_on(ours, whole)
    state = whole.state_dict()
    for mine, theirs in zip(copied, ours, strict=True):
        mine.data.copy_(theirs.data)
    again = Adam(copied, lr=0.1, weight_decay=0.1, decoupled=True)
    again.load_state_dict(copy.deepcopy(state))
    for _ in range(3):
        go_on(ours, whole)
        go_on(copied, again)
    assert all(map(torch.equal, ours, copied))


@pytest.mark.parametrize("state", [{}, {"state": {}, "param_groups": []}, {"parameters": 2, "averages": {}},
                                   {"parameters": 1, "averages": {0: (torch.ones(4), torch.ones(4), torch.ones(()))}}])
def test_a_state_of_other_parameters_is_refused(state):
    with pytest.raises(ValueError, match="other parameters"):
        Adam([nn.Parameter(torch.ones(3))], lr=0.1, weight_decay=0.0, decoupled=False).load_state_dict(state)


def test_sparse_gradients_are_refused():
    table = nn.Embedding(4, 2, sparse=True)
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match="sparse=False"):
        Adam(table.parameters(), lr=0.1, weight_decay=0.0, decoupled=False).step()


def test_a_study_spares_its_driver_the_compiler(tmp_path):
    """The choice of the way takes trial steps in the driver."""
    script = f"""
import sys
import dropkit as dk
if __name__ == "__main__":
    for fused in ("auto", False):
        dk.study(dk.Experiment(data="iris", epochs=1), seeds=2, fused=fused, out=r"{tmp_path}" + str(fused), progress=False)
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
