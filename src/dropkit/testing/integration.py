"""Checks of how a module lives with PyTorch: gradients, compilers, copies, state, other devices, other libraries."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.dropout import _DropoutNd

from dropkit.core.streams import keyed
from dropkit.testing.subject import Subject, close, first, run_keyed, same


@contextmanager
def _compiling() -> Iterator[None]:
    """What the compiler says about its own workings is no fault of the module."""
    torch.compiler.reset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def gradients_are_right(subject: Subject) -> None:
    """First and second derivatives in the data, and first ones in the parameters, match finite differences."""
    module, (x, *rest) = subject.module(0.4).double(), _double(subject.data(2))
    x = x.requires_grad_()

    def run(x: Tensor, *_: Tensor) -> Tensor:
        return run_keyed(module, (x, *rest))

    torch.autograd.gradcheck(run, (x, *module.parameters()))
    torch.autograd.gradgradcheck(lambda x: run(x) ** 2, (x,))


def forward_mode_is_right(subject: Subject) -> None:
    """Derivatives in forward mode match finite differences."""
    module, (x, *rest) = subject.module(0.4).double(), _double(subject.data(2))
    torch.autograd.gradcheck(lambda x: run_keyed(module, (x, *rest)), (x.requires_grad_(),), check_forward_ad=True,
                             check_backward_ad=False)


def gradients_of_dropped_values_are_zero(subject: Subject) -> None:
    """The backward pass uses the mask of the forward pass: what was dropped has gradient 0, what was kept has not."""
    x, *rest = subject.data(8)
    x = (x.abs() + 0.5).requires_grad_()
    y = first(subject.module(0.5)(x, *rest))
    grad, = torch.autograd.grad(y.sum(), x)
    assert torch.equal(grad == 0, y == 0), "gradients vanish elsewhere than values"


@_compiling()
def compiled_code_makes_the_same_masks(subject: Subject) -> None:
    """``torch.compile`` takes the module as one graph with the masks of eager code; a new key or seed needs no other graph."""
    module, graphs = subject.module(0.5), _Counter()
    compiled = torch.compile(module, backend=graphs, fullgraph=True, dynamic=False)
    inputs = subject.data(3)
    for seed in (0, 1):
        (y, one), (z, two) = (_with_gradient(subject, run, inputs, seed) for run in (module, compiled))
        assert close(y, z), "compiled code drops other places than eager code"
        assert close(one, two), "compiled code has other gradients than eager code"
    with keyed(5):
        compiled(*inputs)
    count = graphs.count
    for seed in (1, 2):
        with keyed(seed, 7):
            z = first(compiled(*inputs))
        assert close(z, run_keyed(module, inputs, seed, 7)), "compiled code drops other places under keyed"
    assert graphs.count == count, "a new key compiles nothing"


@_compiling()
def changed_rates_compile_nothing(subject: Subject) -> None:
    """A new rate, 0 included, takes effect in compiled code without compiling again."""
    module, graphs = subject.module(0.5), _Counter()
    compiled = torch.compile(module, backend=graphs, fullgraph=True, dynamic=False)
    inputs = subject.data(3)
    compiled(*inputs)
    count = graphs.count
    for p in (0.25, 0.75, 0.0):
        setattr(module, subject.claims.rate or "", p)
        torch.manual_seed(1)
        y = first(compiled(*inputs))
        torch.manual_seed(1)
        assert close(y, first(module(*inputs))), f"compiled code goes on with another rate than {p}"
    assert graphs.count == count, "a new rate compiles nothing"


def copies_and_pickles_behave_alike(subject: Subject) -> None:
    """Deep copies and pickles print alike, keep their stream and drop alike."""
    inputs, module = subject.data(), subject.module(0.3).eval().train()
    if hasattr(module, "stream"):
        module.stream = "a.b"  # type: ignore[assignment]
    module(*inputs)  # what a forward leaves behind must be copied as well
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert repr(other) == repr(module), "a copy prints the same"
        assert getattr(other, "stream", None) == getattr(module, "stream", None), "a copy keeps its stream"
        assert same(run_keyed(other, inputs), run_keyed(module, inputs)), "a copy drops alike"


def state_is_what_is_claimed(subject: Subject) -> None:
    """The ``state_dict`` has the claimed keys and brings another module to the same outputs."""
    module, inputs = subject.module(0.3), subject.data()
    state = module.state_dict()
    assert set(state) == set(subject.claims.state), f"the state has the keys {sorted(state)}"
    other = subject.make(0.3)
    other.load_state_dict(state)
    for one, two in ((module.eval(), other.eval()), (module.train(), other.train())):
        assert same(run_keyed(one, inputs), run_keyed(two, inputs)), "loading the state gives the same outputs"


def meta_tensors_have_shapes(subject: Subject) -> None:
    """On the meta device the shape comes out without any computation."""
    inputs, module = subject.data(), subject.module(0.5)
    expected = first(module(*inputs))
    y = first(module.to("meta")(*(value.to("meta") if isinstance(value, Tensor) else value for value in inputs)))
    assert y.device.type == "meta", "meta data gives meta data"
    assert y.shape == expected.shape, f"meta data has the shape {tuple(y.shape)}, real data {tuple(expected.shape)}"


def libraries_recognise_it(subject: Subject) -> None:
    """It is an instance of torch's base class of dropout modules, which other libraries look for."""
    assert isinstance(subject.module(0.5), _DropoutNd), "the module derives from torch's _DropoutNd"


class _Counter:
    """A compiler backend that runs the graph as it is, after tracing the derivatives, and counts the graphs."""

    def __init__(self) -> None:
        from torch._dynamo.backends.registry import lookup_backend

        self.count, self._backend = 0, lookup_backend("aot_eager")

    def __call__(self, graph: Any, inputs: Any) -> Any:
        self.count += 1
        return self._backend(graph, inputs)


def _with_gradient(subject: Subject, run: Any, inputs: tuple[Any, ...], seed: int) -> tuple[Tensor, Tensor]:
    """The output, and the gradient of its sum in the data where that is floating."""
    x, *rest = inputs
    x = x.clone().requires_grad_(subject.floating)
    torch.manual_seed(seed)
    y = first(run(x, *rest))
    return y.detach(), torch.autograd.grad(y.sum(), x)[0] if subject.floating else torch.zeros(())


def _double(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(value.double() if isinstance(value, Tensor) and value.is_floating_point() else value for value in inputs)
