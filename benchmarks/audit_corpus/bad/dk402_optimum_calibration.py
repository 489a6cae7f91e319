"""A quantiser switches to training mode for its calibration pass."""

import torch

REPORT = "https://github.com/huggingface/optimum-amd/pull/83"
RULES = ("DK402",)
STATIC = True


def calibrate(model, calibration_dataset):
    is_training = model.training
    with torch.no_grad():
        model.train()  # <- DK402
        for batch in calibration_dataset:
            model(**batch)  # <- DK402
        model.train(is_training)
    return torch.ao.quantization.convert(model)
