"""Before freezing: a wrong scale is measured, randomness is found, and calibration does not run with dropout."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dropkit as dk


class Scaled(nn.Module):
    """A dropout whose survivors are multiplied by a wrong factor."""

    def __init__(self, p, scale):
        super().__init__()
        self.p, self.scale = p, scale

    def forward(self, x):
        return x * (torch.rand_like(x) >= self.p) * self.scale if self.training else x


class Doubles(nn.Module):
    def forward(self, x):
        return x if self.training else 2 * x


class Always(nn.Module):
    def forward(self, x):
        return F.dropout(x, 0.3)


def x_of(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("site", "factor"), [
    (nn.Dropout(0.4), 1.0), (dk.nn.Dropout(0.4, scaling="classic"), 1.0), (dk.nn.DropConnect(nn.Linear(50, 50), 0.4), 1.0),
    (Scaled(0.4, 1.0), 0.6), (Scaled(0.4, 1 / 0.36), 1 / 0.6), (Doubles(), 0.5)])
def test_the_factor_is_measured(site, factor):
    """An interval of 99.9 percent misses once in a thousand; the seed is fixed."""
    model = nn.Sequential(nn.Linear(10, 50), nn.BatchNorm1d(50), nn.ReLU(), site, nn.Linear(50, 2))
    report = dk.freeze_check(model, x_of(32, 10))
    found, = report.factors
    assert (found.name, report.deterministic, report.ok) == ("3", True, factor == 1)
    assert found.low - 1e-5 <= factor <= found.high + 1e-5
    assert found.high - found.low < 0.05
    assert ("DIFFERS" in str(report)) == (factor != 1)


def test_a_linear_model_has_the_factor_of_its_site():
    report = dk.freeze_check(nn.Sequential(Scaled(0.5, 1.0), nn.Linear(10, 4, bias=False)), x_of(32, 10))
    assert report.model.low <= 0.5 <= report.model.high
    assert not report.model.judged


def test_variants_that_change_the_mean_are_not_judged():
    report = dk.freeze_check(nn.Sequential(nn.AlphaDropout(0.3), dk.nn.DenoisingMask(0.3), nn.LSTM(6, 5, 2, dropout=0.5)),
                             x_of(4, 3, 6))
    assert [found.judged for found in report.factors] == [False, False, False]
    assert report.ok


class CallsAlpha(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x, 0.3, self.training)


class OwnAlpha(dk.nn.AlphaDropout):
    pass


@pytest.mark.parametrize("site", [
    *map(CallsAlpha, (F.alpha_dropout, F.feature_alpha_dropout, torch.alpha_dropout, dk.functional.alpha_dropout,
                      dk.functional.denoising_mask)), OwnAlpha(0.3)], ids=str)
def test_calls_and_subclasses_that_change_the_mean_are_not_judged_either(site):
    model = nn.Sequential(nn.Linear(32, 64), nn.SELU(), site, nn.Linear(64, 8))
    report = dk.freeze_check(model, x_of(64, 32))
    assert [(found.name, found.judged) for found in report.factors] == [("2", False)]
    assert report.ok
    assert not dk.audit(model, x_of(64, 32), select=["DK301"]).findings


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_scripted_part_is_refused_by_its_name():
    scripted = torch.jit.script(nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5)))
    with pytest.raises(dk.InputError, match="scripted or traced module at '0'"):
        dk.freeze_check(nn.Sequential(scripted, nn.Dropout(0.2)), x_of(4, 8))


def test_a_model_without_values_is_refused():
    model = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5))
    with pytest.raises(dk.InputError, match="an input on the meta device"):
        dk.freeze_check(model, x_of(4, 8).to("meta"))
    with pytest.raises(dk.InputError, match=r"0\.weight on the meta device"):
        dk.freeze_check(model.to("meta"), x_of(4, 8))


def test_what_varies_in_evaluation_is_named():
    report = dk.freeze_check(nn.Sequential(nn.Linear(4, 4), Always()), x_of(3, 4))
    assert (report.deterministic, report.varying, report.ok) == (False, ("1",), False)
    assert "varies from call to call: 1" in str(report)


def test_the_model_and_the_random_states_stay():
    model = nn.Sequential(nn.BatchNorm1d(4), nn.Dropout(0.5)).train()
    before, state = model[0].running_mean.clone(), torch.get_rng_state()
    dk.freeze_check(model, {"input": x_of(3, 4)}, passes=3)
    assert torch.equal(model[0].running_mean, before)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training for module in model.modules())
    assert not model._forward_pre_hooks


@pytest.mark.parametrize("options", [{"passes": 1}, {"level": 1.0}, {"level": "a"}, {"seed": "a"}])
def test_bad_numbers_are_told(options):
    with pytest.raises(dk.InputError):
        dk.freeze_check(nn.Dropout(), x_of(2), **options)


def test_inputs_that_the_model_rejects_are_told():
    with pytest.raises(dk.InputError, match="runs on the inputs that it is given"):
        dk.freeze_check(nn.Sequential(nn.Linear(4, 4), nn.Dropout()), x_of(3, 5))


def test_inside_disabled_nothing_can_be_checked():
    model = nn.Sequential(Always())
    with dk.disabled(model), pytest.raises(dk.InputError, match=r"freeze_check inside dk\.disabled"):
        dk.freeze_check(model, x_of(3, 4))


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_calibration_is_refused_while_scripted_dropout_acts():
    part = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5))
    scripted = nn.Sequential(torch.jit.script(part))
    with pytest.raises(dk.InputError, match="active sites '0'"), dk.quantization_calibration(scripted):
        raise AssertionError("it does not run")
    with dk.quantization_calibration(scripted.eval()):
        scripted(x_of(2, 4))
    traced = nn.Sequential(torch.jit.trace(part.train(), x_of(2, 4), check_trace=False)).eval()
    with pytest.raises(dk.InputError, match="active sites '0'"), dk.quantization_calibration(traced):
        raise AssertionError("it does not run")


def test_calibration_is_refused_while_dropout_acts():
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.Dropout(0.0)).train()
    with pytest.raises(dk.InputError, match="active sites '1'\\."), dk.quantization_calibration(model):
        raise AssertionError("it does not run")
    with dk.quantization_calibration(model.eval()):
        model(x_of(2, 4))
        model.train()
        with pytest.raises(dk.InputError, match="no dropout acts"):
            model(x_of(2, 4))
    assert not model._forward_pre_hooks
    model(x_of(2, 4))
    with dk.quantization_calibration(nn.Sequential(Always()).eval()):
        pass  # without inputs calls are not seen
    always = nn.Sequential(Always()).eval()
    with pytest.raises(dk.InputError, match="'0:dropout'"), dk.quantization_calibration(always, x_of(3)):
        raise AssertionError("it does not run")


def test_a_hook_is_removed_after_an_error_inside():
    model = nn.Sequential(nn.Dropout(0.5)).eval()
    with pytest.raises(ValueError, match="own"), dk.quantization_calibration(model):
        raise ValueError("own")
    assert not model._forward_pre_hooks
