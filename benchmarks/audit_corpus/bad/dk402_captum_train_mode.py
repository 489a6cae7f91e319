"""Attributions are computed in training mode, because the recurrent kernel refuses a backward pass in eval."""

REPORT = "https://github.com/meta-pytorch/captum/issues/1159"
# See also https://github.com/meta-pytorch/captum/issues/564
RULES = ("DK402",)
STATIC = True


def saliency(model, x, target):
    model.train()  # <- DK402
    x = x.clone().requires_grad_()
    score = model(x)[:, target].sum()  # <- DK402
    score.backward()  # <- DK402
    return x.grad.abs()
