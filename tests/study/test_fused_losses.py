"""The losses that bring their gradient along are PyTorch's, and the gradient is autograd's."""

import pytest
import torch
from torch.nn import functional as F

from dropkit.study.fused_losses import stacked_loss

PEERS = {"cross_entropy": F.cross_entropy, "mse": F.mse_loss, "l1": F.l1_loss, "huber": F.huber_loss}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", PEERS)
def test_each_run_has_its_own_mean_loss_and_the_gradient_of_it(name, dtype):
    out = 30 * torch.randn(3, 7, 5, dtype=dtype)
    y = torch.randint(5, (3, 7)) if name == "cross_entropy" else torch.randn(3, 7, 5, dtype=dtype)
    before = out.clone()
    losses, grad = stacked_loss(name)(out, y)
    assert torch.equal(out, before)
    assert all(not values.requires_grad for values in (losses, grad))
    watched = out.clone().requires_grad_()
    expected = torch.stack([PEERS[name](one, of) for one, of in zip(watched, y, strict=True)])
    expected.sum().backward()
    torch.testing.assert_close(losses, expected.detach())
    torch.testing.assert_close(grad, watched.grad)


def test_a_run_whose_outputs_are_lost_does_not_touch_the_others():
    out, y = torch.randn(2, 4, 3), torch.zeros(2, 4).long()
    alone = stacked_loss("cross_entropy")(out, y)
    out[0, 0, 0] = float("nan")
    losses, grad = stacked_loss("cross_entropy")(out, y)
    assert losses[0].isnan()
    assert torch.equal(losses[1], alone[0][1])
    assert torch.equal(grad[1], alone[1][1])


def test_a_loss_of_the_users_own_has_no_such_way():
    assert stacked_loss("focal") is None
