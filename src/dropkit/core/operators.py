"""Operators: steps that compilers, exporters, fake tensors and vmap take as one, without looking inside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

_LIBRARY = torch.library.Library("dropkit", "FRAGMENT")  # type: ignore[no-untyped-call]


def define(schema: str, run: Callable[..., Any], fake: Callable[..., Any], *, batched: Callable[..., Any] | None = None,
           tags: Sequence[torch.Tag] = ()) -> Callable[..., Any]:
    """Make an operator of a function; nothing is differentiated through it.

    ``torch.library.custom_op`` does the same with more checks and takes 1.7 ms for each, every time that dropkit is imported;
    this takes 0.4.

    Args:
        schema: the name and the types, such as ``"twice(Tensor x) -> Tensor"``.
        run: what it does, on every device.
        fake: a result of the right shape, type and device, of the same arguments.
        batched: its rule under ``torch.vmap``, as ``torch.library.register_vmap`` takes it.
        tags: what compilers should know.

    Returns:
        The operator.

    Example:
        >>> twice = define("documentation_twice(Tensor x) -> Tensor", lambda x: 2 * x, torch.empty_like)
        >>> twice(torch.ones(2))
        tensor([2., 2.])
    """
    name = schema.partition("(")[0]
    _LIBRARY.define(schema, tags=(torch.Tag.pt2_compliant_tag, *tags))  # type: ignore[no-untyped-call]
    _LIBRARY.impl(name, run, "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]
    torch.library.register_fake(f"dropkit::{name}", fake, lib=_LIBRARY)
    if batched is not None:
        torch.library.register_vmap(f"dropkit::{name}", batched, lib=_LIBRARY)
    operator: Callable[..., Any] = getattr(torch.ops.dropkit, name).default
    return operator
