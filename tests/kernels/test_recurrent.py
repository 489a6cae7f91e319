"""The native kernel of recurrent layers against the reference, and the reference against torch's own layers."""

import hashlib
import itertools
import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from dropkit.kernels.native import ops as native
from dropkit.kernels.recurrence import is_plain, recurrence
from dropkit.kernels.recurrent import GATES, GRU, LSTM, RELU, TANH, Layer, blend, reference, steps

NATIVE = pytest.mark.skipif(native.KERNEL is None, reason="without a C++ compiler there is only the reference kernel")
CELLS = {"lstm": LSTM, "gru": GRU, "tanh": TANH, "relu": RELU}
cells = pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
SIZES = {"padded": (), "packed": (4, 3, 3, 1)}


def layer(cell, dtype=torch.float64, sizes=(), masks="none", gates=1, reverse=False, units=5, count=4):
    """A layer with random tensors; masks are for each sequence or for each row, zones neither 0 nor 1."""
    torch.manual_seed(0)
    rows, width = sum(sizes) or 3 * count, GATES[cell] * units
    wide = {"none": 0, "sequence": count, "step": rows}[masks]

    def leaf(*shape):
        return torch.randn(*shape, dtype=dtype, requires_grad=True)

    def mask(*shape):
        return (torch.rand(*shape, dtype=torch.float64) > 0.3).to(dtype) / 0.7

    entering = mask(gates, rows if sizes else wide, 3) if wide and gates > 1 else None
    return Layer(cell, leaf(rows, 3), leaf(width, 3), leaf(count, units), leaf(count, units) if cell == LSTM else None,
                 leaf(width, units), leaf(width), leaf(units) if cell == GRU else None, None, entering,
                 mask(gates, wide, units) if wide else None,
                 mask(wide, units) if wide and cell in (LSTM, GRU) else None,
                 torch.rand(wide, units, dtype=dtype) if wide and cell == LSTM else None,
                 torch.rand(wide, units, dtype=dtype) if wide else None, sizes, reverse)


def inputs(made):
    return [x for x in (made.x, made.w_ih, made.h, made.c, made.w_hh, made.bias, made.bias_n) if x is not None]


def outcome(run, made):
    """Outputs, and gradients of a random projection of them."""
    outputs = [y for y in run(made) if y is not None]
    torch.manual_seed(1)
    loss = sum((y * torch.randn_like(y)).sum() for y in outputs)
    return [*outputs, *torch.autograd.grad(loss, inputs(made))]


@NATIVE
@cells
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize(("dtype", "slack"), [(torch.float64, 1e-13), (torch.float32, 2e-6)], ids=["float64", "float32"])
def test_native_and_reference_agree_in_values_and_gradients(cell, sizes, dtype, slack):
    for masks, reverse in itertools.product(("none", "sequence", "step"), (False, True)):
        for gates in {1, GATES[cell]}:
            made = layer(cell, dtype, sizes, masks, gates, reverse)
            for a, b in zip(outcome(recurrence, made), outcome(reference, made), strict=True):
                assert a.shape == b.shape
                assert float((a - b).detach().abs().max()) <= slack * float(b.detach().abs().max()), (masks, gates, reverse)


@cells
def test_gradients_to_second_order(cell):
    made = layer(cell, sizes=(2, 1), masks="step", gates=GATES[cell], reverse=True, units=2, count=2)
    names = [name for name in ("x", "w_ih", "h", "c", "w_hh", "bias", "bias_n") if getattr(made, name) is not None]

    def run(*tensors):
        changed = Layer(**{**vars(made), **dict(zip(names, tensors, strict=True))})
        return tuple(y for y in recurrence(changed) if y is not None)

    assert torch.autograd.gradcheck(run, inputs(made))
    assert torch.autograd.gradgradcheck(run, inputs(made))


@cells
def test_forward_mode_and_transforms_take_the_reference(cell):
    made = layer(cell, masks="step", units=2, count=1)

    def run(x):
        return recurrence(Layer(**{**vars(made), "x": x}))[0]

    assert torch.autograd.gradcheck(run, (made.x,), check_forward_ad=True, check_backward_ad=False)
    batch = torch.stack([made.x.detach(), 2 * made.x.detach()])
    assert torch.allclose(torch.vmap(run)(batch), torch.stack([run(one) for one in batch]), rtol=1e-13, atol=1e-13)
    grad = torch.func.grad(lambda x: run(x).sum())(made.x.detach())
    assert torch.allclose(grad, torch.autograd.grad(run(made.x).sum(), made.x)[0], rtol=1e-12, atol=1e-13)
    assert is_plain(batch)


@cells
@pytest.mark.parametrize("run", [reference, recurrence])
def test_without_masks_it_is_torchs_layer(cell, run):
    torch.manual_seed(0)
    kinds = {LSTM: nn.LSTM, GRU: nn.GRU, TANH: nn.RNN, RELU: lambda *a: nn.RNN(*a, nonlinearity="relu")}
    plain, x = kinds[cell](3, 5).double(), torch.randn(6, 2, 3, dtype=torch.float64)
    bias, bias_n = plain.bias_ih_l0 + plain.bias_hh_l0, None
    if cell == GRU:
        bias_n = plain.bias_hh_l0[10:]
        bias = plain.bias_ih_l0 + torch.cat((plain.bias_hh_l0[:10], torch.zeros(5)))
    zero = torch.zeros(2, 5, dtype=torch.float64)
    y, h, c = run(Layer(cell, x.flatten(0, 1), plain.weight_ih_l0, zero, zero if cell == LSTM else None, plain.weight_hh_l0,
                        bias, bias_n))
    expected, last = plain(x)
    assert torch.allclose(y.view(6, 2, 5), expected, rtol=1e-12, atol=1e-14)
    assert torch.allclose(h, last[0][0] if cell == LSTM else last[0], rtol=1e-12, atol=1e-14)
    assert (c is None) is (cell != LSTM)


def test_projections_take_the_reference():
    torch.manual_seed(0)
    plain, x = nn.LSTM(3, 5, proj_size=2).double(), torch.randn(6, 2, 3, dtype=torch.float64)
    made = Layer(LSTM, x.flatten(0, 1), plain.weight_ih_l0, torch.zeros(2, 2).double(), torch.zeros(2, 5).double(),
                 plain.weight_hh_l0, plain.bias_ih_l0 + plain.bias_hh_l0, projection=plain.weight_hr_l0)
    assert torch.allclose(recurrence(made)[0].view(6, 2, 2), plain(x)[0], rtol=1e-12, atol=1e-14)


@NATIVE
@cells
def test_operators_keep_pytorchs_rules(cell):
    made = layer(cell, masks="sequence", gates=GATES[cell])
    tensors = [getattr(made, name) for name in ("x", "w_ih", "h", "c", "w_hh", "bias", "bias_n", "entering", "recurrent",
                                                "candidate", "zone_c", "zone_h")]
    torch.library.opcheck(torch.ops.dropkit.recurrence.default, (*tensors, [], False, cell),
                          test_utils=("test_schema", "test_faketensor", "test_autograd_registration"))
    with torch.no_grad():
        _, _, _, acts, previous, extra, entered = torch.ops.dropkit.recurrence(*tensors, [], False, cell)
    grads = (torch.randn(12, 5, dtype=torch.float64), None, None)
    torch.library.opcheck(torch.ops.dropkit.recurrence_backward.default, (
        *grads, *(tensors[i].detach() for i in (0, 1, 4)), acts, previous, extra, entered, *tensors[7:], 4, [], False, cell,
        True),
        test_utils=("test_schema", "test_faketensor"))


def buffers(cell, units, sequences, rows):
    """What the forward operator takes, by name, with random values where it reads them."""
    torch.manual_seed(0)
    width, kept, memories = GATES[cell] * units, rows if cell in (LSTM, GRU) else 0, sequences if cell == LSTM else 0
    return dict(weights=torch.randint(-2, 3, (units, width)).float(), gates=torch.randn(rows, width),
                h=torch.ones(sequences, units), c=torch.ones(memories, units), out=torch.zeros(rows, units),
                previous=torch.zeros(kept, units), extra=torch.zeros(kept, units), entered=torch.zeros(1, rows, units),
                bias=torch.ones(1, units), recurrent=torch.full((1, sequences, units), 2.0), candidate=torch.ones(1, units),
                zone_c=torch.zeros(1, units), zone_h=torch.rand(sequences, units), sizes=[], reverse=False, cell=cell)


@NATIVE
def test_sigmoid_and_tanh_are_accurate():
    """Every output of single precision lies within 3 units in the last place of the value in double precision."""
    units = 67  # leaves a rest after any number of lanes
    x = torch.cat((torch.linspace(-100, 100, 200_001), torch.linspace(-1, 1, 100_001), torch.logspace(-30, 0, 1000),
                   -torch.logspace(-30, 0, 1000), torch.tensor([0.0, -0.0, 1e30, -1e30, torch.inf, -torch.inf])))
    x = torch.cat((x, x.new_zeros(-len(x) % units))).view(-1, units)

    def step(cell, x):
        """The gates' values after one step from states whose products are zero."""
        made = buffers(cell, units, len(x), len(x))
        made.update(gates=x.repeat(1, GATES[cell]), weights=torch.zeros_like(made["weights"]))
        torch.ops.dropkit.recurrent_forward_(**made)
        return made["gates"]

    tanh, exact = step(TANH, x), x.double().tanh()
    assert bool(((tanh.double() - exact).abs() <= 3 * torch.finfo(torch.float32).eps * exact.abs() + 1e-44).all())
    sigmoid, exact = step(LSTM, x)[:, :units], x.double().sigmoid()
    assert bool(((sigmoid.double() - exact).abs() <= 3 * torch.finfo(torch.float32).eps * exact + 2e-38).all())
    nan = torch.full((2, units), torch.nan)
    assert all(bool(step(cell, nan).isnan().all()) for cell in (TANH, LSTM, RELU))


@NATIVE
def test_bad_layers_are_refused_before_memory_is_touched():
    good = buffers(TANH, 3, 2, 6)
    torch.ops.dropkit.recurrent_forward_(**good)
    bad = [dict(cell=4), dict(cell=-1), dict(cell=LSTM), dict(sizes=[2, 2, 1]), dict(sizes=[3, 3]), dict(sizes=[7, -1]),
           dict(sizes=[2, 2, 2, 2]), dict(h=torch.zeros(4, 3)), dict(h=torch.zeros(2, 3).double()),
           dict(h=torch.zeros(2, 3).half()), dict(c=torch.zeros(2, 3)), dict(out=torch.zeros(5, 3)),
           dict(gates=torch.zeros(6, 2)), dict(gates=torch.zeros(3, 6).t()), dict(weights=torch.zeros(3, 4)),
           dict(weights=torch.zeros(3)), dict(entered=torch.zeros(6, 3)), dict(entered=torch.zeros(1, 5, 3)),
           dict(recurrent=torch.zeros(2, 2, 3)), dict(recurrent=torch.zeros(1, 3, 3)), dict(recurrent=torch.zeros(2, 3)),
           dict(recurrent=torch.zeros(1, 3, 2).mT), dict(zone_h=torch.zeros(2, 4)), dict(zone_h=torch.zeros(3, 3)),
           dict(zone_h=torch.zeros(3)), dict(previous=torch.zeros(6, 3)), dict(bias=torch.zeros(2, 3))]
    kept = good["gates"].clone()
    for change in bad:
        with pytest.raises(RuntimeError, match="dropkit"):
            torch.ops.dropkit.recurrent_forward_(**{**good, **change})
        assert torch.equal(good["gates"], kept)
    back = dict(weights=torch.zeros(3, 3), grad_out=torch.zeros(6, 3), grad_h=torch.zeros(2, 3), grad_c=torch.zeros(0, 3),
                acts=torch.zeros(6, 3), grad_input=torch.zeros(6, 3), grad_product=torch.zeros(6, 3),
                **{name: good[name] for name in ("previous", "extra", "recurrent", "candidate", "zone_c", "zone_h", "sizes",
                                                 "reverse", "cell")})
    torch.ops.dropkit.recurrent_backward_(**back)
    bad = [dict(cell=GRU), dict(sizes=[2, 2, 1]), dict(weights=torch.zeros(3, 4)), dict(grad_out=torch.zeros(5, 3)),
           dict(grad_c=torch.zeros(1, 3)), dict(acts=torch.zeros(6, 4)), dict(grad_input=torch.zeros(5, 3)),
           dict(grad_product=torch.zeros(6, 3).double()), dict(recurrent=torch.zeros(1, 5, 3))]
    for change in bad:
        with pytest.raises(RuntimeError, match="dropkit"):
            torch.ops.dropkit.recurrent_backward_(**{**back, **change})


@NATIVE
@cells
def test_the_number_of_threads_changes_nothing(cell):
    found, before = [], torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            made = buffers(cell, 600, 32, 32)  # 14 rows a thread; the products are exact, in whatever order they are summed
            torch.ops.dropkit.recurrent_forward_(**made)
            found.append([made[name] for name in ("gates", "h", "c", "out", "previous", "extra", "entered")])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    assert torch.equal(found[0][-1], torch.full((1, 32, 600), 2.0))


SCRIPT = """
import hashlib, torch
from dropkit.kernels.native import ops as native
from dropkit.kernels.recurrence import recurrence
from dropkit.kernels.recurrent import GATES, Layer
found = hashlib.sha256()
torch.manual_seed(0)
assert native.KERNEL is not None, native.WHY
for cell in range(4):
    width = GATES[cell] * 37
    for masks in {1, GATES[cell]}:
        x, *states = torch.randn(9, 5), *torch.randn(2, 3, 37)
        weights = [torch.randn(width, 5).requires_grad_(), torch.randn(width, 37).requires_grad_()]
        recurrent, (candidate, zone_c, zone_h) = torch.rand(masks, 3, 37), torch.rand(3, 3, 37)
        outputs = recurrence(Layer(cell, x, weights[0], states[0], states[1] if cell == 0 else None, weights[1],
                                   recurrent=recurrent, candidate=candidate, zone_c=zone_c, zone_h=zone_h))
        loss = sum((y * torch.randn_like(y)).sum() for y in outputs if y is not None)
        for y in (*outputs, *torch.autograd.grad(loss, weights)):
            found.update(b"" if y is None else y.detach().numpy().tobytes())
print(found.hexdigest())
"""


@NATIVE
@pytest.mark.slow
def test_every_instruction_set_gives_the_same_bits():
    hashes = {}
    for name in ("scalar", "avx2", "avx512", "neon"):
        done = subprocess.run([sys.executable, "-c", "import dropkit" + SCRIPT], env={**os.environ, "DROPKIT_KERNEL": name},
                              capture_output=True, text=True, check=False)
        if done.returncode == 0:
            hashes[name] = done.stdout.strip()
        else:
            assert "instruction set" in done.stderr or "dropkit" in done.stderr, done.stderr
    assert "scalar" in hashes
    assert len(hashes["scalar"]) == len(hashlib.sha256().hexdigest())
    assert len(set(hashes.values())) == 1, hashes


def test_steps_in_both_directions():
    assert list(steps(6, 2, (), False)) == [(0, 2), (2, 2), (4, 2)]
    assert list(steps(6, 3, (3, 2, 1), True)) == [(5, 1), (3, 2), (0, 3)]
    assert list(steps(0, 0, (), False)) == []


def test_blend_keeps_the_old_where_the_zone_is_1():
    old, new = torch.tensor([1.0, 1.0]), torch.tensor([3.0, 3.0])
    assert blend(old, new, torch.tensor([1.0, 0.0])).tolist() == [1.0, 3.0]
    assert blend(old, new, None) is new
