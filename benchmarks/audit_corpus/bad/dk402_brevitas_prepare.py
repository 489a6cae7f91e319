"""A model is prepared for static quantisation, shown its calibration data in training mode, and converted."""

import torch

REPORT = "https://github.com/Xilinx/brevitas/pull/459"
RULES = ("DK402",)
STATIC = True


def quantize(model, loader):
    model.qconfig = torch.ao.quantization.get_default_qconfig("x86")
    model.train()  # <- DK402
    prepared = torch.ao.quantization.prepare(model)  # <- DK402
    with torch.no_grad():
        for images, _ in loader:
            prepared(images)  # <- DK402
    return torch.ao.quantization.convert(prepared.eval())
