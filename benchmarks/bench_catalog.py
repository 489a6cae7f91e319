"""Every variant of the catalog on its trial input: a training pass against an evaluation pass of the same module."""

from __future__ import annotations

import torch

import dropkit as dk
from dropkit.testing.subject import subject_of
from dropkit.variants.claims import Variant
from harness import Case, compare, write

BATCH = 256


def training_pass(row: Variant) -> Case:
    """Time a variant's module in both modes; what evaluation costs is the layer that it wraps, if any."""
    subject = subject_of(row)
    inputs, active, idle = subject.data(BATCH), subject.module(0.5), subject.module(0.5).eval()
    with torch.no_grad():
        return compare(f"{row.module.__name__}, batch of {BATCH}",
                       {"evaluation": lambda: idle(*inputs), "training": lambda: active(*inputs)}, seconds=0.4)


if __name__ == "__main__":
    write("Every variant", "catalog", [training_pass(row) for row in dk.catalog()],
          "Small inputs, forward only, so mostly the cost of a call. The rows come from the catalog.")
