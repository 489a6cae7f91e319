"""A checkpoint's weights go into the model, whatever wraps them."""

import pytest
import torch
from torch import nn

from dropkit.core.errors import InputError
from dropkit.inference.weights import load_weights


def net():
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "_orig_mod.", "module._orig_mod."])
@pytest.mark.parametrize("inside", ["", "state_dict", "model_state_dict", "model", "net"])
def test_weights_arrive(tmp_path, prefix, inside):
    trained, fresh = net(), net()
    state = {prefix + key: value for key, value in trained.state_dict().items()}
    torch.save({"epoch": 1, inside: state} if inside else state, tmp_path / "w.pt")
    assert load_weights(fresh, tmp_path / "w.pt") is fresh
    for key, value in trained.state_dict().items():
        assert torch.equal(fresh.state_dict()[key], value)


def test_a_prefix_that_the_model_has_stays(tmp_path):
    class Wrapper(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = nn.Linear(1, 1)

    trained, fresh = Wrapper(), Wrapper()
    torch.save(trained.state_dict(), tmp_path / "w.pt")
    load_weights(fresh, tmp_path / "w.pt")
    assert torch.equal(fresh.model.weight, trained.model.weight)


@pytest.mark.parametrize(("saved", "said"), [
    (nn.Linear(2, 3), "is not loaded"), ({"epoch": 1}, "is a state_dict, or holds one"), ([1, 2], "is a state_dict"),
    ({}, "is a"), (nn.Linear(2, 3).state_dict(), "no 0.bias, 0.weight"),
    (net().state_dict() | {"more": torch.ones(1)}, "also more"),
], ids=["pickled", "no weights", "list", "empty", "missing", "more"])
def test_what_is_no_checkpoint_of_the_model_is_refused(tmp_path, saved, said):
    torch.save(saved, tmp_path / "w.pt")
    model = net()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(InputError, match=said):
        load_weights(model, tmp_path / "w.pt")
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04broken"])
def test_damaged_files_are_refused(tmp_path, content):
    (tmp_path / "w.pt").write_bytes(content)
    with pytest.raises(InputError, match="holds tensors"):
        load_weights(net(), tmp_path / "w.pt")


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="weights are in a file"):
        load_weights(net(), tmp_path)
