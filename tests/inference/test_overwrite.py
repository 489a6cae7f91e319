"""Sites write in place where nobody can tell."""

import pytest
import torch
from torch import nn

import dropkit as dk
from dropkit.inference.meter import is_batched
from dropkit.inference.overwrite import overwriting


def in_place(net):
    sites = [module for module in net.modules() if isinstance(module, dk.nn.Dropout)]
    with overwriting(net, sites):
        found = [site.inplace for site in sites]
    assert not any(site.inplace for site in sites)
    return found[1:]  # the first never is


def after(*modules):
    return nn.Sequential(dk.nn.Dropout(0.5), *modules, dk.nn.Dropout(0.5))


@pytest.mark.parametrize(("modules", "able"), [
    ([nn.Linear(4, 4)], True), ([nn.Linear(4, 4), nn.ReLU()], True), ([nn.Linear(4, 4), nn.ReLU(inplace=True)], True),
    ([nn.ReLU(inplace=True)], False), ([nn.Identity()], False), ([nn.Flatten()], False),
    ([nn.Linear(4, 4), nn.Flatten()], False), ([], False), ([nn.Sequential(nn.Linear(4, 4))], False),
])
def test_the_module_before_must_have_made_the_tensor(modules, able):
    assert in_place(after(*modules)) == [able]


def test_a_hook_could_keep_the_tensor():
    for hooked in (1, 2):
        net = after(nn.Linear(4, 4))
        net[hooked].register_forward_hook(lambda *args: None)
        assert in_place(net) == [False]
    handle = nn.modules.module.register_module_forward_hook(lambda *args: None)
    try:
        assert in_place(after(nn.Linear(4, 4))) == [False]
    finally:
        handle.remove()


def test_a_chain_with_a_forward_of_its_own_is_left_alone():
    class Residual(nn.Sequential):
        def forward(self, x):
            y = self[1](x)
            return y + self[2](y)

    assert in_place(Residual(dk.nn.Dropout(0.5), nn.Linear(4, 4), dk.nn.Dropout(0.5))) == [False]


def test_results_are_those_of_passes_at_once():
    torch.manual_seed(0)
    net = nn.Sequential(*[nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(), nn.Dropout2d(0.3))
                          for _ in range(3)], nn.Flatten(), nn.Linear(48, 2)).eval()
    x = torch.randn(4, 3, 4, 4)
    kept = x.clone()
    found = [dk.mc_predict(net, x, 5, samples=True, method=method).samples for method in ("loop", "vmap")]
    torch.testing.assert_close(found[0], found[1])
    assert torch.equal(x, kept)
    assert not any(module.inplace for module in net.modules() if isinstance(module, nn.Dropout2d))


def test_large_tensors_are_foreseen_before_any_pass_runs():
    calls = []
    net = nn.Sequential(nn.ReLU(), nn.Dropout(0.5), nn.Tanh()).eval()
    net[2].register_forward_hook(lambda module, args, output: calls.append(is_batched(output)))
    found = dk.mc_predict(net, torch.ones(1, 1 << 18), 4)
    assert (found.method, found.why) == ("loop", "the tensors after the first site that acts are large")
    assert calls
    assert not any(calls)  # none was begun at once
