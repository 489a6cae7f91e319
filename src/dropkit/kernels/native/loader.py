"""Loads the compiled kernel, or remembers why there is none."""

from __future__ import annotations

import os
from importlib import import_module
from types import ModuleType

import torch  # before the extension, which links against its libraries

from dropkit.core.errors import InputError

VARIABLE = "DROPKIT_KERNEL"
"""Environment variable that forces a path: ``reference``, ``scalar``, ``avx2``, ``avx512`` or ``neon``."""

CHOICES = ("reference", "scalar", "avx2", "avx512", "neon")


def load() -> tuple[ModuleType | None, ModuleType | None, str | InputError]:
    """Return the kernel, its derivatives in C++, either None where it is missing, and the reason for the choice.

    The reason is an error where the environment variable names a path that does not exist or that this machine cannot
    take. It is for the first use of a mask to raise: importing dropkit fails for nobody.
    """
    wanted = os.environ.get(VARIABLE, "")
    if wanted and wanted not in CHOICES:
        problem = InputError(f"{VARIABLE} is one of {', '.join(CHOICES)}", got=wanted, fix="Unset it to let dropkit choose")
        return None, None, problem
    if wanted == "reference":
        return None, None, f"asked for by {VARIABLE}"
    try:
        kernel = import_module("dropkit.kernels.native._native")
    except ImportError as error:
        if wanted:
            return None, None, InputError(f"{VARIABLE} names a path that this machine can take", got=wanted,
                                          fix=f"Unset it ({error})")
        return None, None, f"the native kernel was not compiled: {error}"
    why = f"instruction set {kernel.isa()}, " + (f"asked for by {VARIABLE}" if wanted else "the fastest of this processor")
    return kernel, _derivatives(), why


def _derivatives() -> ModuleType | None:
    """Autograd's nodes are no part of PyTorch's stable ABI: those compiled for a version bear it in their name."""
    version = torch.__version__.partition("+")[0].replace(".", "_")
    try:
        return import_module(f"dropkit.kernels.native._autograd_{version}")
    except ImportError:
        return None
