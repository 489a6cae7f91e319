"""Rule DK104: graphs that hold the mode in which they were made."""

import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from dropkit.audit.audit import audit
from dropkit.audit.baked import fixed_calls, graphs


class Functional(nn.Module):
    def __init__(self, p=0.3):
        super().__init__()
        self.inner, self.p = nn.Linear(8, 32), p

    def forward(self, x):
        return F.dropout(self.inner(x), self.p, self.training)


class Outer(nn.Module):
    def __init__(self, *parts):
        super().__init__()
        self.first, self.last = parts[0], parts[-1]
        self.head = nn.Linear(32, 4)

    def forward(self, x):
        first = self.first(x)  # the first
        return self.head(first + self.last(x))  # the last


X = torch.ones(4, 8)


def quietly(make, *args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make(*args, **kwargs)  # the tracing line


def trace(model):
    return quietly(torch.jit.trace, model, X, check_trace=False)


def export(model):
    return quietly(torch.export.export, model, (X,)).module()


def found(model):
    return quietly(audit, model, X, select=["DK104"]).findings


@pytest.mark.parametrize("part", [torch.fx.symbolic_trace, trace, export], ids=["fx", "trace", "export"])
def test_a_graph_made_in_training_is_an_error_and_one_made_in_evaluation_a_note(part):
    made = found(Outer(part(Functional().train())))
    assert [(one.severity, one.place.module, dict(one.evidence)) for one in made] == [
        ("error", "first", {"calls": 1, "p": 0.3})]
    made = found(Outer(part(Functional().eval())))
    assert [(one.severity, one.place.module) for one in made] == [("note", "first")]


def test_the_tracing_line_is_told_once_something_was_compiled():
    """Torch's compiler then stands between the tracer and the line."""
    quietly(torch.compile(nn.Linear(2, 2), backend="eager"), torch.ones(1, 2))
    one, = found(Outer(nn.Linear(8, 32), nn.Sequential(trace(Functional()))))
    assert one.place.code.endswith("# the tracing line")


def test_lines_are_those_of_the_call_and_of_the_trace():
    both = Outer(torch.fx.symbolic_trace(Functional()), trace(Functional()))
    assert {one.place.code.partition("# ")[2] for one in found(both)} == {"the first", "the tracing line"}
    both = Outer(nn.Linear(8, 32), torch.fx.symbolic_trace(Functional()))
    assert [one.place.code.partition("# ")[2] for one in found(both)] == ["the last"]


@pytest.mark.parametrize("part", [
    lambda: torch.fx.symbolic_trace(nn.Sequential(nn.Linear(8, 32), nn.Dropout(0.3))),
    lambda: quietly(torch.jit.script, nn.Sequential(nn.Linear(8, 32), nn.Dropout(0.3))),
    lambda: torch.fx.symbolic_trace(Functional(p=0.0)), lambda: trace(nn.Linear(8, 32)), lambda: export(nn.Linear(8, 32)),
    Functional], ids=["fx of modules", "script", "no rate", "trace without", "export without", "no graph"])
def test_what_asks_for_the_mode_is_not_flagged(part):
    assert found(Outer(part())) == ()


def test_a_graph_that_is_the_model_itself():
    assert [one.place.module for one in found(trace(Functional()))] == [""]
    assert [one.place.module for one in found(export(Functional()))] == [""]
    assert [one.place.module for one in found(torch.fx.symbolic_trace(Functional()))] == [""]


def test_a_graph_that_train_replaces_is_read_in_each_mode():
    class Both(torch.fx.GraphModule):  # as torchvision's feature extractors are
        def __init__(self):
            training, quiet = Functional(), Functional().eval()
            super().__init__(training, torch.fx.symbolic_trace(training).graph)
            self.kept = self.graph, torch.fx.symbolic_trace(quiet).graph

        def train(self, mode=True):
            self.graph = self.kept[not mode]
            return super().train(mode)

    part = Both()
    assert (fixed_calls(part.train()), fixed_calls(part.eval())) == ([(0.3, True)], [(0.3, False)])


def test_recurrent_layers_and_attention_in_graphs():
    lstm = quietly(torch.jit.trace, nn.LSTM(8, 8, 2, dropout=0.2), X, check_trace=False)
    assert fixed_calls(lstm) == [(0.2, True)]
    assert fixed_calls(quietly(torch.jit.trace, nn.LSTM(8, 8, 1), X, check_trace=False)) == []

    class Attention(nn.Module):
        def forward(self, q):
            return F.scaled_dot_product_attention(q, q, q, dropout_p=0.1 if self.training else 0.0)

    q = torch.ones(2, 3, 4)
    assert fixed_calls(quietly(torch.jit.trace, Attention(), q, check_trace=False)) == [(0.1, True)]
    assert fixed_calls(torch.fx.symbolic_trace(Attention())) == [(0.1, True)]
    assert fixed_calls(torch.fx.symbolic_trace(Attention().eval())) == []


def test_of_scripts_in_scripts_the_outermost_is_read():
    model = nn.ModuleDict({"a": trace(nn.Sequential(Functional())), "ab": nn.ReLU()})
    assert list(graphs(dict(model.named_modules()))) == ["a"]


def test_the_random_state_and_the_model_stay():
    model, state = Outer(torch.fx.symbolic_trace(Functional())).eval(), torch.get_rng_state()
    found(model)
    assert torch.equal(state, torch.get_rng_state())
    assert not any(part.training for part in model.modules())
