"""DK402: quantisation is calibrated, or saliency computed, with active dropout."""

from dropkit.audit.rule import Rule

RULE = Rule(
    id="DK402",
    title="Quantisation is calibrated, or saliency computed, with active dropout",
    why="Observers that watch a model in training mode see activations that are zero with probability p and otherwise larger "
        "by 1 / (1 - p): the ranges that they choose are too wide for the model that is deployed. A saliency map computed in "
        "training mode belongs to one random mask and changes with every call.",
    fix="Call `model.eval()` before calibrating or explaining. Quantisation-aware training (`prepare_qat`) is meant to run in "
        "training mode and is not flagged.",
    severity="error",
    confidence="high",
    bad="""\
import torch
from torch import nn
from torch.ao.quantization import convert, prepare


def quantize(batches):
    model = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.2), nn.Linear(8, 2))
    prepared = prepare(model)
    for x in batches:
        prepared(x)
    return convert(prepared)
""",
    good="""\
import torch
from torch import nn
from torch.ao.quantization import convert, prepare


def quantize(batches):
    model = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.2), nn.Linear(8, 2))
    model.eval()
    prepared = prepare(model)
    for x in batches:
        prepared(x)
    return convert(prepared)
""",
    references=("PyTorch documentation, \"Quantization\", section \"Post Training Static Quantization\"",
                "Kokhlikyan et al., \"Captum: A unified and generic model interpretability library for PyTorch\", 2020"),
)
