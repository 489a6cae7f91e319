"""Every claim of every row of the catalog, verified by the public suite.

A check that does not apply to a row is opted out of in the row, by its name and with a reason.
"""

import inspect
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import dropkit as dk
from dropkit.catalog import CATALOG
from dropkit.testing import CHECKS
from dropkit.testing.subject import subject_of

rows = pytest.mark.parametrize("row", CATALOG, ids=lambda row: row.name)
inverted = pytest.mark.parametrize("row", [row for row in CATALOG if row.claims.inverted], ids=lambda row: row.name)
PAIRS = [pytest.param(row, check, id=f"{row.name}-{check.name}") for row in CATALOG for check in CHECKS
         if check.name not in dict(row.opt_outs) and check.applies(subject_of(row))]


# torch's own forward-mode rules are compiled with torch.jit.script, which warns.
@pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")
@pytest.mark.parametrize(("row", "check"), PAIRS)
def test_contract(row, check):
    torch.manual_seed(0)
    check.run(subject_of(row))


@rows
def test_names_are_consistent(row):
    assert getattr(dk.nn, row.module.__name__) is row.module
    assert inspect.unwrap(getattr(dk.functional, row.function.__name__)) is row.function
    assert row.module.__name__.lower() == row.name.replace("_", "") == row.function.__name__.replace("_", "")
    assert row.function.__module__ == row.module.__module__ == f"dropkit.variants.{row.family}"
    assert row.summary.endswith(".")
    assert row.claims.shape_rule
    assert row.reference
    assert row.torch_twin is None or row.torch_twin.__name__ == row.module.__name__
    assert row.claims.rate_one in ("zeros", "refused", "other")


@rows
def test_functions_are_explicit(row):
    """Activity and randomness are arguments, by the same names everywhere."""
    parameters = inspect.signature(row.function).parameters
    assert parameters["training"].default is True
    if row.claims.random:
        for name in ("generator", "stream"):
            assert parameters[name].default is None
            assert parameters[name].kind is inspect.Parameter.KEYWORD_ONLY
    assert ("inplace" in parameters) is row.claims.inplace


@rows
def test_docstrings_have_what_explain_and_the_pages_show(row):
    text = inspect.getdoc(row.function)
    for section in ("Args:", "Shape:", "Use:", "Rates:", "Evidence:", "Example:", "References:"):
        assert f"\n{section}\n" in text, section
    assert inspect.getdoc(row.module)


@rows
def test_opt_outs_name_checks_that_would_apply_and_give_reasons(row):
    known = {check.name: check for check in CHECKS}
    for name, reason in row.opt_outs:
        assert known[name].applies(subject_of(row)), f"{name} does not apply anyway"
        assert len(reason) > 20


@rows
def test_repr_is_that_of_torch(row):
    if row.torch_twin is not None:
        assert repr(row.module(0.25)) == repr(row.torch_twin(0.25))
        assert not isinstance(row.module(), row.torch_twin)
    if row.claims.inplace:
        assert "inplace=True" in repr(row.module(0.25, inplace=True))


@inverted
@settings(max_examples=30, deadline=None)
@given(st.data())
def test_any_rate_and_batch(row, data):
    count, p = data.draw(st.integers(0, 9)), data.draw(st.floats(0, 1))
    x, *rest = row.trial.inputs(count)
    x = x.double()
    with dk.keyed(data.draw(st.integers(0, 2**64 - 1)), data.draw(st.integers(0, 2**64 - 1))):
        y = row.trial.make(p)(x, *rest)
    limit = math.floor(p * 2**32 + 0.5)
    scale = 2**32 / (2**32 - limit) if limit < 2**32 else 0.0
    assert y.shape == x.shape
    assert bool(((y == 0) | (y == x * scale)).all())


@inverted
@pytest.mark.parametrize("p", [0.1, 0.5])
def test_the_realised_rate_is_within_a_bound(row, p):
    """Hoeffding's bound at a false-alarm rate of 1e-6 over as many decisions as there are examples, at least."""
    x, *rest = row.trial.inputs(4000)
    shares = (row.trial.make(p).train()(torch.ones_like(x), *rest) == 0).double().flatten(1).mean(1)
    assert abs(float(shares.mean()) - p) < math.sqrt(math.log(2 / 1e-6) / (2 * len(shares)))
