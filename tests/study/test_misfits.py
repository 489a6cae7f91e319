"""A variant where it cannot act as it is meant to is a caution, told once, and no warning from the depths."""

import warnings

import pytest
import torch
from torch import nn

import dropkit as dk
from dropkit.study.instruments_time import time_in_dropout
from dropkit.study.prepare import prepare
from dropkit.study.training import train

X, LABELS = torch.randn(40, 1, 6, 6, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 3


def flat():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Dropout(0.3), nn.Linear(64, 3))


def both():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.Dropout(0.2), *list(flat())[1:])


def ready(model, arms):
    return prepare(dk.Experiment(data=(X, LABELS), model=model, epochs=1), arms)


@pytest.mark.parametrize(("variant", "said"), [
    ("dropout1d", "gets inputs of 2 dimensions, not (N, C, L): they are read as one example without a batch, and whole"),
    ("dropout2d", "gets inputs of 2 dimensions, not (N, C, H, W): single elements are dropped there, as at the same rates"),
    ("dropout3d", "gets inputs of 2 dimensions, not (N, C, D, H, W): they are read as one example without a batch"),
])
def test_channels_that_are_none_are_told_and_nothing_warns(variant, said):
    arm = f"variant={variant}"
    found = ready(flat, f"none,intended,{arm}")
    caution, = found.cautions
    assert caution.startswith(f"In arm {arm!r} {variant} at '3' {said}")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(found, found.arm(arm), 0)
        time_in_dropout(found, found.arm(arm))


@pytest.mark.parametrize(("variant", "rows"), [("dropout1d", True), ("dropout2d", False), ("dropout3d", True)])
def test_whole_examples_are_dropped_where_a_caution_says_so(variant, rows):
    """Of 64 rows of 64 elements at rate 0.5 one is all alike by chance with probability 2^-57 at most."""
    module = getattr(dk.nn, variant.capitalize())(0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dropped = module(torch.ones(64, 64)) == 0
    assert (dropped == dropped[:, :1]).all(1).tolist() == [rows] * 64


def test_the_arm_does_what_the_caution_says():
    found = ready(flat, "none,intended,variant=dropout2d")
    first, second = (train(found, found.arm(name), 0) for name in ("intended", "variant=dropout2d"))
    assert first.test_loss == second.test_loss


def test_only_the_sites_that_do_not_fit_are_named():
    caution, = ready(both, "none,variant=dropout2d").cautions
    assert "dropout2d at '4' gets" in caution


def test_a_variant_that_fits_and_the_models_own_channel_dropout_are_not_told():
    def fitting():
        return nn.Sequential(nn.Conv2d(1, 4, 3), nn.Dropout(0.2), nn.Flatten(), nn.Linear(64, 3))

    assert ready(fitting, "none,variant=dropout2d,variant=gaussian_dropout").cautions == []


def test_warnings_of_other_arms_are_left_alone():
    def own():
        return nn.Sequential(nn.Flatten(), nn.Dropout2d(0.3), nn.Linear(36, 3))

    with pytest.warns(UserWarning, match="dropout2d: Received a 2-D input"):
        found = ready(own, "none,intended")
    assert found.cautions == []
