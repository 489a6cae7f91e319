"""Static quantisation: prepared, calibrated and converted in evaluation."""

import torch

REPORT = "https://github.com/Xilinx/brevitas/pull/459"
RULES = ()
STATIC = True


def quantize(model, loader):
    model.eval()
    model.qconfig = torch.ao.quantization.get_default_qconfig("x86")
    prepared = torch.ao.quantization.prepare(model)
    with torch.no_grad():
        for images, _ in loader:
            prepared(images)
    return torch.ao.quantization.convert(prepared)
