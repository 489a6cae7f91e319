import itertools
import math

import pytest
import torch
import torch.nn.functional as F

import dropkit as dk
from dropkit.variants import drop_block
from dropkit.variants.channel import dropout2d
from dropkit.variants.drop_block import DropBlock1d, DropBlock2d, DropBlock3d, drop_block1d, drop_block2d, drop_block3d
from dropkit.variants.dropout import dropout

FUNCTIONS = {1: drop_block1d, 2: drop_block2d, 3: drop_block3d}
MODULES = {1: DropBlock1d, 2: DropBlock2d, 3: DropBlock3d}
# Sides of the map and of the block: even and odd, the whole map, larger than the map, thin maps.
GEOMETRIES = [((9,), 3), ((8,), 4), ((5,), 9), ((7, 7), 7), ((8, 8), 4), ((9, 5), 3), ((5, 11), 2), ((4, 9), 6), ((6, 6), 1),
              ((8, 7), (2, 5)), ((3, 3), 8), ((1, 12), 4), ((4, 5, 6), 2), ((5, 4, 3), 3), ((2, 7, 3), (3, 2, 3))]
geometries = pytest.mark.parametrize(("sizes", "block"), GEOMETRIES)


def clipped(sizes, block):
    sides = block if isinstance(block, tuple) else (block,) * len(sizes)
    return tuple(min(side, size) for side, size in zip(sides, sizes, strict=True))


def hoeffding(count, false_alarm=1e-6):
    """How far the mean of independent values in [0, 1] strays from its expectation, but for one time in a million."""
    return math.sqrt(math.log(2 / false_alarm) / (2 * count))


def windows(sizes, sides):
    """Every place of a whole block, as slices."""
    for begin in itertools.product(*(range(size - side + 1) for size, side in zip(sizes, sides, strict=True))):
        yield tuple(slice(b, b + side) for b, side in zip(begin, sides, strict=True))


@geometries
@pytest.mark.parametrize("shared", [False, True])
def test_what_is_dropped_is_a_union_of_whole_blocks(sizes, block, shared):
    # The defect of torchvision at even sizes: it makes masks of another shape than the map's.
    torch.manual_seed(0)
    y = FUNCTIONS[len(sizes)](torch.ones(4, 5, *sizes), 0.4, block_size=block, renormalise="none", shared=shared)
    assert y.shape == (4, 5, *sizes)
    assert set(y.unique().tolist()) == {0.0, 1.0}
    for plane in y.flatten(0, 1):
        union = torch.ones_like(plane)
        for window in windows(sizes, clipped(sizes, block)):
            if not plane[window].any():
                union[window] = 0
        assert torch.equal(union, plane)
    alike = torch.equal(y, y[:, :1].expand_as(y))
    assert alike is shared


@pytest.mark.parametrize(("sizes", "block"), [((5,), 2), ((6,), 3), ((4,), 6), ((3, 4), 2), ((4, 4), 3), ((5, 3), (2, 3)),
                                              ((3, 3), 1), ((3, 3, 3), 2), ((2, 3, 4), (2, 2, 3))])
@pytest.mark.parametrize("p", [0.01, 0.1, 0.5, 0.97])
def test_expected_dropped_fraction_is_the_rate_by_enumeration(sizes, block, p):
    sides = clipped(sizes, block)
    places = [size - side + 1 for size, side in zip(sizes, sides, strict=True)]
    patterns = torch.tensor(list(itertools.product([False, True], repeat=math.prod(places))))
    gamma = float(drop_block.seed_rate(torch.tensor(p, dtype=torch.float64), sizes, sides))
    seeds = patterns.sum(1).double()
    weights = gamma**seeds * (1 - gamma) ** (patterns.shape[1] - seeds)
    mask = drop_block._grow(~patterns.view(-1, 1, *places), sides)
    assert mask.shape == (len(patterns), 1, *sizes)
    fractions = (~mask).flatten(1).double().mean(1)
    assert float((weights * fractions).sum()) == pytest.approx(p, rel=1e-12)


@pytest.mark.parametrize("p", [2.0**-32, 1e-6, 0.1, 0.5, 0.999, 1 - 2.0**-32, 1.0])
@pytest.mark.parametrize(("sizes", "sides"), [((56, 56), (7, 7)), ((28, 14), (6, 9)), ((7, 7), (7, 7)), ((9, 8, 6), (5, 5, 4))])
def test_seed_rates_solve_their_equation(sizes, sides, p):
    gamma = float(drop_block.seed_rate(torch.tensor(p, dtype=torch.float64), sizes, sides))
    covers = torch.ones((), dtype=torch.float64)
    for size, side in zip(sizes, sides, strict=True):
        along = F.conv_transpose1d(torch.ones(1, 1, size - side + 1), torch.ones(1, 1, side))[0, 0].double()
        covers = covers[..., None] * along
    kept = (covers * math.log1p(-gamma)).exp() if gamma < 1 else torch.zeros_like(covers)
    dropped = -torch.expm1(covers * math.log1p(-gamma)) if gamma < 1 else 1 - kept
    assert float(dropped.mean()) == pytest.approx(p, rel=2e-6)  # at 2^-32 the last halving is 2^-60: 1e-6 of gamma


@pytest.mark.parametrize(("sizes", "block", "planes"), [
    *(((7, 7), k, 8192) for k in range(1, 10)), ((14, 14), 7, 8192), ((14, 14), 8, 8192), ((28, 28), 7, 4096),
    ((28, 14), 6, 4096), ((56, 56), 7, 2048), ((56, 56), 9, 2048), ((64,), 7, 8192), ((6, 7, 8), 3, 4096)])
def test_realised_fraction_is_the_rate(sizes, block, planes):
    # The fractions of planes are independent and lie in [0, 1].
    torch.manual_seed(1)
    y = FUNCTIONS[len(sizes)](torch.ones(planes // 8, 8, *sizes), 0.5, block_size=block)
    assert abs(float((y == 0).double().mean()) - 0.5) < hoeffding(planes)


def test_a_block_as_large_as_the_map_drops_the_nominal_share():
    # The defect of timm: seeds anywhere on the map with the rate for the valid region drop 93 % here.
    reach = torch.tensor([4, 5, 6, 7, 6, 5, 4])
    assert 0.92 < float((1 - (1 - 0.1) ** (reach[:, None] * reach)).mean()) < 0.94
    torch.manual_seed(2)
    y = drop_block2d(torch.ones(2500, 8, 7, 7), 0.1, block_size=7)
    assert abs(float((y == 0).double().mean()) - 0.1) < hoeffding(20000)


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_blocks_of_one_are_dropout_and_blocks_of_the_map_channel_dropout(p):
    x = torch.ones(4, 8, 6, 5)
    for block, other in ((1, dropout), (6, dropout2d)):
        with dk.keyed(3):
            y = drop_block2d(x, p, block_size=block, renormalise="none")
        with dk.keyed(3):
            assert torch.equal(y == 0, other(x, p) == 0)


@pytest.mark.parametrize("shared", [False, True])
def test_each_example_keeps_its_sum(shared):
    # The defect of torchvision: one factor for the batch, so that examples differ in scale.
    torch.manual_seed(4)
    x = torch.ones(64, 3, 9, 9, dtype=torch.float64)
    y = drop_block2d(x, 0.4, block_size=4, shared=shared)
    kept = (y != 0).flatten(1).sum(1)
    assert bool((kept > 0).all())
    assert len(kept.unique()) > 10
    assert torch.allclose(y.flatten(1).sum(1), x.flatten(1).sum(1), rtol=1e-12)
    assert torch.equal(y.flatten(1).amax(1), torch.full((64,), 243.0, dtype=torch.float64) / kept)  # rounded once
    z = drop_block2d(x, 0.4, block_size=4, shared=shared, renormalise="batch")
    assert float(z.sum()) == pytest.approx(float(x.sum()), rel=1e-12)
    assert len(z.unique()) == 2


def test_an_example_does_not_depend_on_its_batch():
    x = torch.randn(6, 3, 9, 9)
    with dk.keyed(5):
        alone = drop_block2d(x[:2], 0.3, block_size=3)
    with dk.keyed(5):
        among = drop_block2d(x, 0.3, block_size=3)
    assert torch.equal(alone, among[:2])


@pytest.mark.parametrize("renormalise", ["sample", "batch", "none"])
def test_examples_of_which_nothing_is_kept_are_zero(renormalise):
    torch.manual_seed(6)
    for x in (torch.ones(64, 1, 3, 3), torch.ones(1, 1, 3, 3)):
        for p in (0.9, 1.0):
            leaf = x.clone().requires_grad_()
            y = drop_block2d(leaf, p, block_size=3, renormalise=renormalise)
            grad, = torch.autograd.grad(y.sum(), leaf)
            assert bool((y == 0).flatten(1).all(1).any())
            assert bool(y.isfinite().all())
            assert torch.equal(grad, y)  # the input is 1


@pytest.mark.parametrize("shape", [(0, 3, 7, 7), (2, 0, 7, 7), (2, 3, 0, 7), (2, 3, 7, 0), (3, 0, 0)])
@pytest.mark.parametrize("renormalise", ["sample", "batch", "none"])
def test_empty_data_passes_and_counts_as_a_use(shape, renormalise):
    x = torch.ones(shape, requires_grad=True)
    y = drop_block2d(x, 0.5, block_size=3, renormalise=renormalise)
    assert y.shape == shape
    assert torch.autograd.grad(y.sum(), x)[0].shape == shape
    images = torch.ones(2, 3, 8, 8)
    outcomes = []
    for first in (x.detach(), images):
        with dk.keyed(7):
            drop_block2d(first, 0.5, block_size=3, renormalise=renormalise)
            outcomes.append(drop_block2d(images, 0.5, block_size=3))
    assert torch.equal(*outcomes)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_values_are_rounded_once(dtype):
    x = (torch.rand(3, 4, 9, 9, dtype=torch.float64) + 0.5).to(dtype)
    with dk.keyed(8):
        y = drop_block2d(x, 0.3, block_size=3)
    keep = y != 0
    wide = torch.float64 if dtype is torch.float64 else torch.float32
    scale = torch.full((3, 1, 1, 1), 324.0, dtype=wide) / keep.sum((1, 2, 3), keepdim=True)
    assert torch.equal(y, torch.where(keep, (x.to(wide) * scale).to(dtype), 0))


@pytest.mark.parametrize("renormalise", ["sample", "batch", "none"])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_channels_last_stay_last(renormalise, shared, dtype):
    for x in (torch.randn(4, 3, 8, 9, dtype=dtype).to(memory_format=torch.channels_last),
              torch.randn(4, 3, 5, 6, 7, dtype=dtype).to(memory_format=torch.channels_last_3d)):
        outcomes = []
        for data in (x, x.contiguous()):
            with dk.keyed(10):
                outcomes.append(FUNCTIONS[x.dim() - 2](data, 0.3, block_size=3, renormalise=renormalise, shared=shared))
        assert torch.equal(*outcomes)
        assert outcomes[0].stride() == x.stride()
        assert outcomes[1].is_contiguous()


def test_only_the_mask_is_saved():
    x, saved = torch.ones(4, 8, 16, 16, requires_grad=True), []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        drop_block2d(x, 0.2)
    assert sum(t.untyped_storage().nbytes() for t in saved) <= x.numel() + 64


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_modules_pass_their_settings_on(rank):
    x = torch.randn(3, 4, *(6, 7, 5)[:rank])
    module = MODULES[rank](0.3, 2, renormalise="batch", shared=True)
    with dk.keyed(9):
        y = module(x)
    with dk.keyed(9):
        assert torch.equal(y, FUNCTIONS[rank](x, 0.3, block_size=2, renormalise="batch", shared=True))
    assert repr(module) == f"DropBlock{rank}d(p=0.3, block_size=2, renormalise='batch', shared=True)"
    module.p = 1.0
    assert not module(x).any()
    module.p = 0.0
    assert module(x) is x


@pytest.mark.parametrize(("x", "settings", "text"), [
    (torch.ones(3, 4), {}, "drop_block2d takes inputs of 4 dimensions, or 3"),
    (torch.ones(1, 1, 1, 3, 4), {}, "drop_block2d takes inputs of 4 dimensions, or 3"),
    (torch.ones(1, 2, 3, 4, dtype=torch.int64), {}, "floating-point data; got torch.int64"),
    (torch.ones(1, 2, 3, 4), {"block_size": 0}, "at least 1, or a tuple of them; got 0"),
    (torch.ones(1, 2, 3, 4), {"block_size": True}, "at least 1, or a tuple of them; got True"),
    (torch.ones(1, 2, 3, 4), {"block_size": (2, 3.0)}, r"at least 1, or a tuple of them; got \(2, 3.0\)"),
    (torch.ones(1, 2, 3, 4), {"block_size": (2, 3, 4)}, r"block sizes are 2, one a spatial dimension; got \(2, 3, 4\)"),
    (torch.ones(1, 2, 3, 4), {"renormalise": "mean"}, "renormalise is .*; got 'mean'"),
    (torch.ones(1, 2, 3, 4), {"p": 1.5}, r"in \[0, 1\]; got 1.5"),
])
def test_errors(x, settings, text):
    with pytest.raises(dk.InputError, match=text):
        drop_block2d(x, **settings)


@pytest.mark.parametrize(("settings", "text"), [({"block_size": -1}, "block size"), ({"block_size": "7"}, "block size"),
                                                ({"renormalise": None}, "renormalise"), ({"p": -0.1}, "probability")])
def test_modules_refuse_at_once(settings, text):
    with pytest.raises(dk.InputError, match=text):
        DropBlock2d(**settings)
