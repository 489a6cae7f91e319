import math
import os
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

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


class Pair(nn.Module):
    """A layer with more arguments that returns a tuple, as transformers' layers do."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(math.nan))

    def forward(self, x, shift, *, scale):
        value = x[0] if isinstance(x, tuple) else x
        return value * scale + shift, shift


def test_a_slice_keeps_rate_setting_and_mode():
    # nn.ModuleList makes a slice with the defaults of its class, in training mode: it would drop in evaluation.
    stack = LayerDrop([Add(i) for i in range(6)], 0.9, safe=True).eval()
    part = stack[1:4]
    assert (type(part), part.p, part.safe, part.training, len(part)) == (LayerDrop, 0.9, True, False, 3)
    assert part[0] is stack[1]
    assert float(part(torch.zeros(())).detach()) == 6.0
    assert stack.train()[:2].training
    nested = LayerDrop([LayerDrop([Add(1)], 0.3)], 0.9)
    assert nested[0].p == 0.3  # one layer is itself, though it be a stack


def test_layers_take_further_arguments_and_may_return_tuples():
    stack = LayerDrop([Pair() for _ in range(3)], 0.0)
    assert stack(torch.tensor(1.0), 1.0, scale=2.0) == (torch.tensor(15.0), 1.0)
    stack = LayerDrop([Pair() for _ in range(3)], 1.0, safe=True)
    value, rest = stack((torch.tensor(1.0), "rest"), 1.0, scale=2.0)
    assert (float(value.detach()), rest) == (1.0, "rest")
    value.backward()
    assert [float(layer.weight.grad) for layer in stack] == [0.0] * 3


def test_skipping_everything_returns_the_input_itself():
    x = torch.ones(2)
    assert LayerDrop([Add(1.0)], 1.0, safe=False)(x) is x
    assert LayerDrop([Add(1.0)], 1.0)(x) is x  # no process group is up
    assert LayerDrop([], 0.5)(x) is x


def test_frozen_parameters_get_no_gradient_and_types_may_differ():
    stack = LayerDrop([nn.Linear(2, 2), nn.Linear(2, 2).double()], 1.0, safe=True)
    stack[0].weight.requires_grad_(False)
    y = stack(torch.ones(1, 2))
    assert y.dtype is torch.float32
    y.sum().backward()
    assert stack[0].weight.grad is None
    for parameter in (stack[0].bias, *stack[1].parameters()):
        assert parameter.grad.dtype is parameter.dtype
        assert torch.equal(parameter.grad, torch.zeros_like(parameter))


def test_states_are_a_module_list_s():
    stack, plain = (kind([nn.Linear(2, 3), nn.Linear(3, 2)]) for kind in (LayerDrop, nn.ModuleList))
    stack.load_state_dict(plain.state_dict())
    plain.load_state_dict(stack.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(stack.parameters(), plain.parameters(), strict=True))
    stack.append(nn.Linear(2, 2))
    assert len(stack.chosen()) == len(stack) == 3


def test_rates_are_checked_and_show():
    stack = LayerDrop([nn.Identity()], 0.3)
    assert repr(stack) == "LayerDrop(\n  p=0.3\n  (0): Identity()\n)"
    with pytest.raises(dk.InputError, match="probability"):
        stack.p = 1.5
    with pytest.raises(dk.InputError, match="probability"):
        layer_drop(2, math.nan, training=False)
    with pytest.raises(dk.InputError, match="safe is"):
        LayerDrop([], safe="yes")


@pytest.mark.parametrize("count", [-1, 2.0, True, None])
def test_wrong_counts_are_refused(count):
    with pytest.raises(dk.InputError, match="count is"):
        layer_drop(count)


@pytest.fixture
def rank_one(monkeypatch):
    """A process group in which rank 0 has always drawn the seed 5, and the number of seeds that were sent."""
    sent = []

    def broadcast(seed, src):
        assert src == 0
        sent.append(seed.clone())
        seed.fill_(5)

    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_backend", lambda: "gloo")
    monkeypatch.setattr(torch.distributed, "broadcast", broadcast)
    return sent


def test_ranks_take_the_first_one_s_seed_and_all_draw(rank_one):
    torch.manual_seed(1)
    first = layer_drop(60, 0.5)
    state = torch.get_rng_state()
    torch.manual_seed(2)
    assert layer_drop(60, 0.5) == first
    torch.manual_seed(1)
    torch.randint(-2**63, 2**63 - 1, ())
    assert torch.equal(torch.get_rng_state(), state)  # one draw, as without ranks
    assert len({int(seed) for seed in rank_one}) == 2


def test_nothing_is_sent_where_the_ranks_agree_anyway(rank_one):
    with dk.keyed(1):
        layer_drop(4, 0.5)
    layer_drop(4, 0.5, generator=torch.Generator())
    layer_drop(4, 0.0)
    layer_drop(4, 0.5, training=False)
    assert rank_one == []


def test_a_process_group_makes_skipped_layers_safe_unless_told_otherwise(rank_one):
    for safe, linked in ((None, True), (True, True), (False, False)):
        assert LayerDrop([Add(1.0)], 1.0, safe=safe)(torch.zeros(())).requires_grad is linked


def test_a_checkpoint_without_the_key_is_refused_with_ranks_too(rank_one):
    stack = LayerDrop([Add(1.0) for _ in range(4)], 0.5)
    with dk.keyed(1):
        y = checkpoint(stack, torch.zeros((), requires_grad=True), use_reentrant=False)
    with pytest.raises(dk.InputError, match="checkpoint"):
        y.backward()


SCRIPT = '''
import os
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
dist.barrier()
print("agreed", flush=True)
# All that is tested is done. A gloo thread that outlives the interpreter aborts the process now and then (pytorch #179291:
# the wrapped model keeps its process group alive), so leave without tearing the interpreter down.
os._exit(0)
'''


@pytest.mark.slow
def test_two_processes_agree_and_do_not_hang(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    run = subprocess.run([sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(script)],
                         capture_output=True, text=True, timeout=180, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert run.returncode == 0, run.stdout[-500:] + run.stderr[:4000]
    assert run.stdout.count("agreed") == 2


@pytest.mark.parametrize("layers", [[1], 3, [nn.Linear(2, 2), "x"]])
def test_layers_are_modules(layers):
    with pytest.raises(dk.InputError, match="layers are modules"):
        LayerDrop(layers)
