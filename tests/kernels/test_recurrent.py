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


@NATIVE
def test_sigmoid_and_tanh_are_accurate():
    """Every output of single precision lies within 3 units in the last place of the value in double precision."""
    x = torch.cat((torch.linspace(-100, 100, 200_001), torch.linspace(-1, 1, 100_001), torch.logspace(-30, 0, 1000),
                   -torch.logspace(-30, 0, 1000), torch.tensor([0.0, -0.0, 1e30, -1e30, torch.inf, -torch.inf])))[None]
    units = x.shape[1]
    zero = torch.zeros(1, units)

    def step(cell, gates):
        """The gates' values after one step from zero states, whose products are zero."""
        gates, (h, c, out, previous, extra) = gates.clone(), zero.repeat(5, 1, 1).unbind()
        torch.ops.dropkit.recurrent_forward_step_(torch.zeros_like(gates), gates, h, c, out, previous, extra, zero,
                                                  torch.ones(1, units), zero, zero, cell, 0, 1)
        return gates

    tanh, exact = step(TANH, x)[0], x[0].double().tanh()
    assert bool(((tanh.double() - exact).abs() <= 3 * torch.finfo(torch.float32).eps * exact.abs() + 1e-44).all())
    sigmoid, exact = step(LSTM, x.repeat(1, 4))[0, :units], x[0].double().sigmoid()
    assert bool(((sigmoid.double() - exact).abs() <= 3 * torch.finfo(torch.float32).eps * exact + 2e-38).all())
    nan = torch.full((1, units), torch.nan)
    assert bool(step(TANH, nan).isnan().all())
    assert bool(step(LSTM, nan.repeat(1, 4)).isnan().all())
    assert bool(step(RELU, nan).isnan().all())


@NATIVE
def test_bad_steps_are_refused_before_memory_is_touched():
    good = dict(product=torch.zeros(2, 3), gates=torch.zeros(6, 3), h=torch.zeros(2, 3), c=torch.zeros(0, 3),
                out=torch.zeros(6, 3), previous=torch.zeros(0, 3), extra=torch.zeros(0, 3),
                bias=torch.zeros(1, 3), candidate=torch.ones(1, 3), zone_c=torch.zeros(1, 3), zone_h=torch.zeros(1, 3),
                cell=TANH, first=4, count=2)
    torch.ops.dropkit.recurrent_forward_step_(**good)
    bad = [dict(cell=4), dict(cell=-1), dict(first=5), dict(first=-1), dict(count=3), dict(h=torch.zeros(2, 3).double()),
           dict(out=torch.zeros(5, 3)), dict(gates=torch.zeros(6, 2)), dict(product=torch.zeros(1, 3)),
           dict(zone_h=torch.zeros(2, 4)), dict(gates=torch.zeros(3, 6).t()), dict(cell=LSTM), dict(h=torch.zeros(2, 3).half())]
    for change in bad:
        with pytest.raises(RuntimeError, match="dropkit"):
            torch.ops.dropkit.recurrent_forward_step_(**{**good, **change})


@NATIVE
@cells
def test_the_number_of_threads_changes_nothing(cell):
    found, before, units = [], torch.get_num_threads(), 6000  # two rows a thread
    torch.manual_seed(0)
    product, gates = torch.randn(2, 4, GATES[cell] * units).unbind()
    one, zone = torch.ones(1, units), torch.rand(4, units)
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            h, c, out, previous, extra = torch.ones(5, 4, units).unbind()
            acts = gates.clone()
            torch.ops.dropkit.recurrent_forward_step_(product, acts, h, c, out, previous, extra, one, one, one * 0, zone, cell,
                                                      0, 4)
            found.append((h, c, out, acts))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


SCRIPT = """
import hashlib, torch
from dropkit.kernels.recurrent import GATES
found = hashlib.sha256()
torch.manual_seed(0)
for cell in range(4):
    width = GATES[cell] * 37
    made = [torch.randn(3, width) * 3, torch.randn(3, width), *torch.randn(2, 3, 37), *torch.empty(3, 3, 37),
            *torch.rand(4, 1, 37)]
    torch.ops.dropkit.recurrent_forward_step_(*made, cell, 0, 3)
    grads = [*torch.randn(3, 3, 37), made[1], *made[5:7], *made[8:11], torch.empty(3, width), torch.empty(3, width)]
    torch.ops.dropkit.recurrent_backward_step_(*grads, cell, 0, 3)
    for x in (made[1], made[2], made[3], grads[1], grads[2], grads[9]):
        found.update(x.numpy().tobytes())
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
