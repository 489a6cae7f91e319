"""DK101: a site that is active in evaluation."""

from __future__ import annotations

from collections.abc import Iterable

from dropkit.audit.finding import Finding
from dropkit.audit.graph import label
from dropkit.audit.observation import EVAL, Observation
from dropkit.audit.rule import Rule


def _check(seen: Observation) -> Iterable[Finding]:
    for site in {site.name: site for site in seen.site_calls(EVAL) if site.active}.values():
        yield RULE.finding(f"{label(site)} drops in evaluation at rate {site.p:g}", site.op.place,
                           subject=site.name.rpartition(":")[2], evidence={"p": site.p})


_BAD = """import torch
from torch import nn
from torch.nn import functional as F
class Net(nn.Module):
    def forward(self, x):
        return F.dropout(x, 0.5)
def build():
    return Net()
def inputs():
    return torch.ones(8, 16)
"""
RULE = Rule(
    "DK101", "A site is active in evaluation",
    "Predictions are noisy and worse than the network's. The functions drop unless they are told not to.",
    "Pass training=self.training, or dropout_p=p if self.training else 0.0. Where it is meant, say so in a comment.",
    "error", "high", _BAD, _BAD.replace("0.5)", "0.5, self.training)"),
    ("PyTorch documentation, torch.nn.functional.dropout: training is True by default",
     "PyTorch documentation, torch.nn.functional.scaled_dot_product_attention: dropout_p acts in any mode"), _check)
