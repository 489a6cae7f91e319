import pytest
import torch
from torch import nn

import dropkit as dk
from dropkit.variants.concrete import ConcreteDropout
from dropkit.variants.information import InformationDropout
from dropkit.variants.regularization import regularization_loss
from dropkit.variants.variational import VariationalDropout


class Penalty(nn.Module):
    """A user's module with a term for the whole data set."""

    def __init__(self, value=6.0):
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value))

    def forward(self, x):
        return x

    def regularization(self):
        return self.value**2


def learned():
    torch.manual_seed(0)
    return nn.Sequential(VariationalDropout(nn.Linear(4, 8)), nn.ReLU(),
                         ConcreteDropout(nn.Linear(8, 8), weight_regularizer=0.5, dropout_regularizer=0.25),
                         InformationDropout(nn.Linear(8, 2)))


def test_terms_add_up():
    model = nn.Sequential(Penalty(3.0), nn.Linear(2, 2), nn.Sequential(Penalty(4.0)))
    assert regularization_loss(model).item() == 25.0


def test_only_terms_of_the_whole_data_set_are_divided():
    model = learned()
    model(torch.randn(5, 4))
    whole, concrete, information = (model[i].regularization() for i in (0, 2, 3))
    assert torch.allclose(regularization_loss(model), whole + concrete + information)
    assert torch.allclose(regularization_loss(model, data_size=50), whole / 50 + concrete + information)
    assert regularization_loss(Penalty(6.0), data_size=4).item() == 9.0


def test_gradients_reach_every_parameter():
    model = learned().double()
    model(torch.randn(5, 4, dtype=torch.float64))
    loss = regularization_loss(model, data_size=10)
    assert loss.shape == ()
    assert loss.dtype is torch.float64
    loss.backward()
    for name in ("0.weight", "0.log_sigma2", "2.weight", "2.p_logit", "3.alpha_weight", "3.alpha_bias"):
        grad = model.get_parameter(name).grad
        assert grad is not None, name
        assert bool(grad.isfinite().all()), name
        assert bool((grad != 0).any()), name


def test_terms_of_half_precision_are_summed_in_single():
    torch.manual_seed(0)
    layers = [VariationalDropout(nn.Linear(300, 300)) for _ in range(2)]
    total = regularization_loss(nn.ModuleList(layers).half())
    assert total.dtype is torch.float32
    assert 65504 < total.item() < float("inf")  # more than float16 holds


def test_a_shared_module_counts_once():
    shared = Penalty(3.0)
    model = nn.Sequential(shared, nn.Sequential(shared), shared)
    assert regularization_loss(model).item() == 9.0


@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda m: torch.compile(m, backend="eager"), lambda m: nn.ModuleList([m])])
def test_wrappers_do_not_count(wrap):
    model = Penalty(3.0)
    assert regularization_loss(wrap(model)).item() == 9.0


def test_what_only_bears_the_name_is_no_term():
    model = nn.Sequential(Penalty(3.0))
    model[0].add_module("inner", nn.Module())
    model[0].inner.regularization = nn.Linear(2, 2)
    assert regularization_loss(model).item() == 9.0


def test_a_model_without_terms_is_refused():
    with pytest.raises(dk.InputError, match=r"has modules with a term for it; got Sequential\. Variational, concrete"):
        regularization_loss(nn.Sequential(nn.Linear(2, 2), nn.Dropout()))


@pytest.mark.parametrize("size", [0, -3, 1.5, True, "x"])
def test_wrong_sizes_are_refused(size):
    with pytest.raises(dk.InputError, match="data_size is"):
        regularization_loss(Penalty(), data_size=size)


def test_terms_that_need_a_forward_pass_say_so():
    with pytest.raises(dk.InputError, match="after a forward pass in training"):
        regularization_loss(learned())


def test_it_is_the_loss_of_a_model():
    with pytest.raises(dk.InputError, match="that of a model; got 3"):
        regularization_loss(3, data_size=2)
