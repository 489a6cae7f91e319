import math
import os
import subprocess
import sys

import pytest
import torch
from torch import nn

import dropkit as dk
from dropkit.variants.layer_drop import LayerDrop, layer_drop


class Add(nn.Module):
    def __init__(self, amount):
        super().__init__()
        self.amount = nn.Parameter(torch.tensor(float(amount)))

    def forward(self, x):
        return x + self.amount


def test_skipped_layers_leave_no_trace_and_nothing_is_scaled():
    stack = LayerDrop([Add(2**i) for i in range(6)], 0.5)
    with dk.keyed(3):
        total = stack(torch.zeros(()))
    with dk.keyed(3):
        chosen = stack.chosen()
    assert float(total.detach()) == sum(2**i for i, runs in enumerate(chosen) if runs)
    assert float(stack.eval()(torch.zeros(())).detach()) == 63.0


def test_iteration_is_stable():
    stack = LayerDrop([nn.Linear(2, 2) for _ in range(5)], 0.9)
    assert all(list(stack) == list(stack.children()) for _ in range(10))
    assert list(stack.state_dict()) == list(nn.ModuleList(stack).state_dict())


def test_each_layer_is_skipped_at_the_rate():
    kept = torch.tensor([layer_drop(10, 0.3) for _ in range(2000)]).double()
    bound = math.sqrt(math.log(2 * 10 / 1e-6) / (2 * 2000))
    assert bool(((1 - kept.mean(0)) - 0.3).abs().lt(bound).all())


def test_safe_mode_gives_skipped_layers_zero_gradients_even_where_they_are_nan():
    stack = LayerDrop([Add(math.nan), Add(1.0)], 1.0, safe=True)
    y = stack(torch.zeros(3, requires_grad=True))
    assert torch.equal(y, torch.zeros(3))
    y.sum().backward()
    assert [float(p.grad) for p in stack.parameters()] == [0.0, 0.0]
    assert LayerDrop([Add(1.0)], 1.0)(torch.zeros(3)).requires_grad is False


def test_pruning_keeps_every_other_layer():
    stack = LayerDrop([nn.Identity() for _ in range(6)])
    assert stack.kept_every(2) == [0, 2, 4]
    assert stack.kept_every(3) == [0, 1, 3, 4]
    with pytest.raises(dk.InputError, match="at least 2"):
        stack.kept_every(1)


SCRIPT = '''
import torch, torch.distributed as dist
from torch import nn
import dropkit as dk

dist.init_process_group("gloo")
rank = dist.get_rank()
torch.manual_seed(rank)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stack = dk.nn.LayerDrop([nn.Linear(4, 4) for _ in range(6)], 0.5)
        self.path = dk.nn.DropPath(0.5)
    def forward(self, x):
        return x + self.path(self.stack(x))

torch.manual_seed(0)
net = nn.parallel.DistributedDataParallel(Net())
torch.manual_seed(100 + rank)
optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
for step in range(8):
    optimizer.zero_grad()
    net(torch.randn(5, 4)).pow(2).sum().backward()
    optimizer.step()

def everywhere(value):
    found = [torch.empty_like(value) for _ in range(2)]
    dist.all_gather(found, value)
    return found

a, b = everywhere(torch.cat([p.detach().flatten() for p in net.parameters()]))
assert torch.equal(a, b), "parameters agree"
a, b = everywhere(torch.tensor([layer for _ in range(10) for layer in net.module.stack.chosen()]).int())
assert torch.equal(a, b), "ranks skip the same layers"
a, b = everywhere(net.module.path(torch.ones(64, 1)))
assert not torch.equal(a, b), "ranks drop examples of their own"
with dk.keyed(1):
    a, b = everywhere(net.module.path(torch.ones(64, 1)))
assert torch.equal(a, b), "one key is one mask on every rank"
dist.destroy_process_group()
print("agreed", flush=True)
'''


@pytest.mark.slow
def test_two_processes_agree_and_do_not_hang(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    run = subprocess.run([sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(script)],
                         capture_output=True, text=True, timeout=180, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert run.returncode == 0, run.stderr[-2000:]
    assert run.stdout.count("agreed") == 2
