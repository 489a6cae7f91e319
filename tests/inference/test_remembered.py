"""A twin that is used again predicts as a fresh one does, whatever has been done to its model in between."""

import gc
import weakref

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import dropkit as dk
from dropkit.inference import remembered
from dropkit.inference.remembered import active_twin


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.width, self.first, self.norm = 8, nn.Linear(4, 8), nn.BatchNorm1d(8)
        self.drop, self.act, self.last = nn.Dropout(0.5), nn.PReLU(), nn.Linear(8, 3)

    def forward(self, x):
        return self.last(self.drop(self.act(self.norm(self.first(x)))))


def made():
    torch.manual_seed(0)
    return Net().eval()


X = torch.randn(5, 4, generator=torch.Generator().manual_seed(1))


def predicted(model):
    return dk.mc_predict(model, X, 20, samples=True).samples


def fresh(model):
    remembered._KEPT.clear()
    return predicted(model)


def twin(model, **options):
    active, keep = active_twin(model, X, **options)
    keep()
    return active


def test_the_twin_of_the_last_call_is_used_again():
    model = made()
    assert twin(model) is twin(model)
    assert twin(model, rates=0.3) is twin(model, rates=0.3)
    assert twin(model, rates=0.3) is not twin(model, rates=0.4)
    assert twin(model, where="drop") is not twin(model, where="dropout")
    first = twin(model)
    twin(made())
    assert twin(model) is not first  # one at most is kept


def rate(model):
    model.drop.p = 0.1


def module(model):
    model.act = nn.Tanh()


def weight(model):
    model.last.weight = nn.Parameter(torch.ones(3, 8))


def equal_weight_that_will_change(model):
    model.act.weight = nn.Parameter(model.act.weight.clone())
    with torch.no_grad():
        model.act.weight.fill_(3.0)


def weight_in_place(model):
    with torch.no_grad():
        model.last.weight.mul_(2.0)


def buffer(model):
    model.norm.running_mean = torch.ones(8)


def buffer_in_place(model):
    model.norm.running_var.fill_(4.0)


def mode(model):
    model.train()


def hook(model):
    model.act.register_forward_hook(lambda module, inputs, output: output * 2)


def kind(model):
    model.act.__class__ = Doubled


def more(model):
    model.last.extra = nn.Dropout(0.2)


def swapped(model):
    dk.swap(model)


class Doubled(nn.PReLU):
    def forward(self, x):
        return super().forward(x) * 2


CHANGES = [rate, module, weight, equal_weight_that_will_change, weight_in_place, buffer, buffer_in_place, mode, hook, kind,
           more, swapped]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_whatever_changes_in_the_model_counts(change):
    model = made()
    before = predicted(model)
    change(model)
    after = predicted(model)
    assert torch.equal(after, fresh(model))
    if change not in (mode, more, swapped):
        assert not torch.equal(after, before)


def test_a_forward_that_is_defined_anew_counts(monkeypatch):
    model = made()
    predicted(model)
    monkeypatch.setattr(Net, "forward", lambda self, x: F.dropout(self.first(x), 0.5, self.training))
    assert torch.equal(predicted(model), fresh(model))


def test_a_site_of_ours_and_tensors_as_attributes_are_copied_anew():
    model = made()
    model.drop = dk.nn.Dropout(0.5)
    assert twin(model) is not twin(model)
    other = made()
    other.first.table = torch.ones(2)
    assert twin(other) is not twin(other)


def test_a_twin_in_which_a_pass_failed_is_not_kept():
    model = made()
    first = twin(model)
    with pytest.raises(dk.InputError):
        dk.mc_predict(model, torch.randn(5, 7), 3)
    assert twin(model) is not first


def test_a_model_goes_when_nobody_else_holds_it():
    model = made()
    predicted(model)
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None
    assert not remembered._KEPT
