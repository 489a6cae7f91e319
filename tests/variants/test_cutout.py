import math

import pytest
import torch

import dropkit as dk
from dropkit.variants.cutout import Cutout, RandomErasing, cutout, random_erasing

both = pytest.mark.parametrize("function", [cutout, random_erasing])


def hoeffding(count, spread=1.0):
    """How far the mean of independent values in an interval strays from its expectation, but for one time in a million."""
    return spread * math.sqrt(math.log(2 / 1e-6) / (2 * count))


def boxes(y):
    """Height, width, top and left of the one full rectangle of zeros that each example has, or None."""
    found = []
    for image in y:
        assert torch.equal(image, image[:1].expand_as(image))  # all channels alike
        rows, columns = (image[0] == 0).any(1).nonzero().flatten(), (image[0] == 0).any(0).nonzero().flatten()
        if not len(rows):
            found.append(None)
            continue
        top, left, height, width = int(rows[0]), int(columns[0]), len(rows), len(columns)
        assert not image[0, top : top + height, left : left + width].any()
        assert int((image[0] == 0).sum()) == height * width
        found.append((height, width, top, left))
    return found


@pytest.mark.parametrize("size", [1, 4, 5, 8, 40])
def test_the_side_is_the_whole_side(size):
    # The defect of a published version: it goes L to either side of the centre and erases 2L.
    torch.manual_seed(0)
    images = torch.ones(400, 2, 20, 16)
    for height, width, top, left in boxes(cutout(images, size=size)):
        assert height <= min(size, 20)
        assert width <= min(size, 16)
        assert height == size or top == 0 or top + height == 20  # only cut at a border
        assert width == size or left == 0 or left + width == 16
    sides = {box[0] for box in boxes(cutout(images, size=size))}
    assert max(sides) == min(size, 20)
    assert (min(sides) < size) is (size > 1)


@pytest.mark.parametrize(("size", "length"), [(1, 5), (2, 6), (3, 7), (4, 9)])
def test_centres_are_uniform_over_the_pixels(size, length):
    torch.manual_seed(1)
    count = 20000
    sides = [min(length, centre - size // 2 + size) - max(0, centre - size // 2) for centre in range(length)]
    expected = (sum(sides) / length) ** 2
    erased = (cutout(torch.ones(count, 1, length, length), size=size) == 0).double()
    assert abs(float(erased.sum()) / count - expected) < hoeffding(count, size**2)
    begins = [centre - size // 2 for centre in range(length)]
    centred = torch.tensor([sum(begin <= i < begin + size for begin in begins) for i in range(length)]) / length
    shares = erased.mean((0, 1))
    assert bool(((shares - centred[:, None] * centred).abs() < hoeffding(count)).all())


def test_several_squares_fall_independently():
    torch.manual_seed(2)
    count, length = 20000, 6
    hit = (torch.tensor([2, 3, 3, 3, 3, 2]) / length).double()  # a side of 3: how many centres reach each pixel
    cover = hit[:, None] * hit
    shares = (cutout(torch.ones(count, 1, length, length), size=3, count=2) == 0).double().mean((0, 1))
    assert bool(((shares - (1 - (1 - cover) ** 2)).abs() < hoeffding(count)).all())


@both
@pytest.mark.parametrize("p", [0.2, 0.9])
def test_examples_are_treated_at_the_rate(function, p):
    torch.manual_seed(3)
    erased = (function(torch.ones(20000, 1, 4, 4), p) == 0).flatten(1).any(1).double()
    assert abs(float(erased.mean()) - p) < hoeffding(20000)


@both
def test_erased_values_and_their_gradients_are_replaced(function):
    torch.manual_seed(4)
    x = torch.randn(8, 3, 12, 12)
    x[:, :, ::2] = math.nan
    leaf = x.clone().requires_grad_()
    y = function(leaf, 1.0, value=7.0)
    erased = y == 7.0
    assert 0 < int(erased.sum()) < x.numel()
    assert torch.equal(y.detach().nan_to_num(9), torch.where(erased, 7.0, x).nan_to_num(9))
    grad, = torch.autograd.grad(y.sum(), leaf)
    assert torch.equal(grad, (~erased).float())


def test_rectangles_have_the_area_and_aspect_of_their_ranges():
    torch.manual_seed(5)
    size, (low, high), (flat, tall) = 40, (0.1, 0.2), (0.5, 2.0)
    found = boxes(random_erasing(torch.ones(500, 2, size, size), 1.0, area=(low, high), aspect=(flat, tall)))
    for height, width, _, _ in found:  # sides are rounded to whole pixels
        assert (height - 0.5) * (width - 0.5) <= high * size**2
        assert (height + 0.5) * (width + 0.5) >= low * size**2
        assert (height - 0.5) / (width + 0.5) <= tall
        assert (height + 0.5) / (width - 0.5) >= flat
    assert len({box[:2] for box in found}) > 50
    areas = torch.tensor([box[0] * box[1] for box in found]) / size**2
    longest, shortest = math.sqrt(high * tall), math.sqrt(high / tall)
    rounding = ((longest + shortest) * size / 2 + 0.25) / size**2  # half a pixel at either side changes an area by no more
    assert abs(float(areas.mean()) - 0.15) < hoeffding(500, high - low + 2 * rounding) + rounding


def test_tall_and_wide_rectangles_are_equally_likely():
    # With the aspect itself uniform on (1/4, 4) four of five would be tall.
    torch.manual_seed(6)
    count = 4000
    erased = random_erasing(torch.ones(count, 1, 32, 32), 1.0, area=(0.1, 0.2), aspect=(0.25, 4.0)) == 0
    height, width = erased.any(3).sum(2), erased.any(2).sum(2)
    assert abs(float((height - width).sign().double().mean())) < hoeffding(count, 2.0)


def test_places_of_rectangles_are_uniform():
    torch.manual_seed(7)
    count = 20000
    erased = random_erasing(torch.ones(count, 1, 8, 6), 1.0, area=(12 / 48, 12 / 48), aspect=(4 / 3, 4 / 3))[:, 0] == 0
    for sides, begins in ((erased.any(2), 5), (erased.any(1), 4)):  # a rectangle of 4 x 3
        assert bool((sides.sum(1) == (sides.shape[1] - begins + 1)).all())
        shares = torch.bincount(sides.int().argmax(1), minlength=begins).double() / count
        assert len(shares) == begins
        assert bool(((shares - 1 / begins).abs() < hoeffding(count)).all())


@pytest.mark.parametrize("shape", [(1, 1), (3, 2), (1, 30), (30, 1)])
def test_rectangles_fit_every_image(shape):
    torch.manual_seed(8)
    for height, width, _, _ in boxes(random_erasing(torch.ones(100, 1, *shape), 1.0, area=(0.5, 1.0), aspect=(0.1, 10.0))):
        assert 1 <= height <= shape[0]
        assert 1 <= width <= shape[1]


@both
def test_one_image_is_a_batch_of_one(function):
    x = torch.randn(3, 10, 12)
    with dk.keyed(9):
        one = function(x, 1.0)
    with dk.keyed(9):
        assert torch.equal(one, function(x[None], 1.0)[0])
    assert (one == 0).any()


@both
@pytest.mark.parametrize("shape", [(0, 3, 8, 8), (2, 0, 8, 8), (2, 3, 0, 8), (2, 3, 8, 0)])
def test_empty_images_pass(function, shape):
    assert function(torch.ones(shape), 1.0).shape == shape


@both
def test_the_rate_leaves_the_places_alone(function):
    x = torch.ones(200, 1, 9, 9)
    erased = []
    for p in (0.3, 1.0):
        with dk.keyed(10):
            erased.append(function(x, p) == 0)
    treated = erased[0].flatten(1).any(1)
    assert 0 < int(treated.sum()) < 200
    assert torch.equal(erased[0][treated], erased[1][treated])


def test_modules_pass_their_settings_on():
    x = torch.rand(8, 3, 12, 12) + 0.5
    for module, function, settings in ((Cutout(0.7, size=3, count=2, value=-1), cutout, {"size": 3, "count": 2, "value": -1.0}),
                                       (RandomErasing(0.7, area=(0.1, 0.2), aspect=(1, 2), value=-1), random_erasing,
                                        {"area": (0.1, 0.2), "aspect": (1.0, 2.0), "value": -1.0})):
        with dk.keyed(11):
            y = module(x)
        with dk.keyed(11):
            assert torch.equal(y, function(x, 0.7, **settings))
        shown = ", ".join(f"{key}={value}" for key, value in settings.items())
        assert repr(module) == f"{type(module).__name__}(p=0.7, {shown})"
        assert bool((y == -1).any())
        assert module.eval()(x) is x


@pytest.mark.parametrize(("function", "x", "settings", "text"), [
    *((function, torch.ones(shape), {}, r"\(N, C, H, W\), or \(C, H, W\)") for function in (cutout, random_erasing)
      for shape in ((3, 3), (1, 1, 1, 3, 3))),
    *((function, torch.ones(1, 2, 3, 3, dtype=torch.uint8), {}, "floating-point") for function in (cutout, random_erasing)),
    *((function, torch.ones(1, 2, 3, 3), {"value": bad}, "value is the number") for function in (cutout, random_erasing)
      for bad in (None, "0", True)),
    *((cutout, torch.ones(1, 2, 3, 3), {name: bad}, f"{name} is an integer of at least 1; got {bad}")
      for name in ("size", "count") for bad in (0, -1, 2.0, True)),
    *((random_erasing, torch.ones(1, 2, 3, 3), {"area": bad}, "area is a pair") for bad in
      (0.1, (0.0, 0.1), (0.2, 0.1), (0.5, 1.1), (0.1, 0.2, 0.3), (0.1, math.nan), "ab")),
    *((random_erasing, torch.ones(1, 2, 3, 3), {"aspect": bad}, "aspect is a pair") for bad in ((0.0, 1.0), (2, 1), (-1, 1))),
    (random_erasing, torch.ones(1, 2, 3, 3), {"aspect": (1.0, math.inf)}, "aspect is a pair"),
    (cutout, torch.ones(1, 2, 3, 3), {"p": 1.1}, r"in \[0, 1\]; got 1.1"),
])
def test_errors(function, x, settings, text):
    with pytest.raises(dk.InputError, match=text):
        function(x, **settings)
