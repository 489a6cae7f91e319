"""Monte-Carlo dropout."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from dropkit.core.errors import InputError, phrase
from dropkit.core.flags import check_flag
from dropkit.core.seeds import check_integer, check_seed
from dropkit.inference.accepted import accepted, check_acting
from dropkit.inference.acting import Acting
from dropkit.inference.active import Active
from dropkit.inference.batches import rows_in, shown
from dropkit.inference.gathered import Gathered
from dropkit.inference.outputs import Picker
from dropkit.inference.passes import pass_indices, pass_seeds
from dropkit.inference.remembered import active_twin
from dropkit.inference.result import MCPrediction, joined
from dropkit.inference.run import METHODS, Runner
from dropkit.inference.single import Pass, SharedPass
from dropkit.surgery.calls import call_model, unmoved

_MEMORY = 1 << 26
_TASKS = ("auto", "classification", "regression", None)


@torch.no_grad()
def mc_predict(model: nn.Module, inputs: Any, passes: int | Iterable[int] = 50, *, seed: int = 0, where: Any = "*",
               rates: float | Mapping[str, float] | None = None, method: str = "auto", task: str | None = "auto",
               samples: bool = False, memory: int = _MEMORY, share_mask: bool = False,
               outputs: Callable[[Any], Tensor] | None = None, class_dim: int = -1, progress: bool = False) -> MCPrediction:
    """Predict with dropout on, many times, and tell how much the predictions differ (Monte-Carlo dropout).

    Of T passes with outputs ``y_t`` the mean ``sum_t y_t / T`` and the variance ``sum_t (y_t - mean)^2 / (T - 1)`` are given;
    in classification of the probabilities ``softmax(y_t)``. The model is left exactly as it is: what runs is a twin on the same
    parameters. All sites take part that dropkit knows (see `dk.sites`): modules, functional calls, attention, recurrent layers,
    also where the code turns them off in evaluation or a fused path of torch would skip them. Everything else, such as batch
    normalisation, stays in evaluation mode.

    Pass k of a batch of n examples, of which b precede it, has the masks of ``dk.keyed(seed, pass_index=k, rows=(b, n))`` on a
    model that ``dk.swap`` has swapped, whatever the method, the memory and the number of threads. So the size of the batches
    does not matter either, where the examples are the first dimension of a site's mask. With ``torch.vmap`` the part of the
    model before the first site that acts runs once for all passes that fit into memory.

    Args:
        model: any module.
        inputs: what the model is called with: a tensor, a tuple or list of arguments, a dict of keyword arguments; or a
            ``DataLoader`` or another iterable of batches, of which the first entry is the data where they are tuples.
        passes: how many, or their numbers, so that ``passes=[7]`` makes pass 7 again. Default: 50.
        seed: the seed of all masks.
        where: a glob of site names, a kind of sites such as ``"dropout2d"``, or several of them; others do not act.
            ``"attention"`` are attention's weights, in ``nn.MultiheadAttention``, functional calls and dropkit's modules.
        rates: one rate for all sites that act, or rates by site name or glob. Default: those that they have in training.
        method: ``"vmap"``, ``"loop"``, or ``"auto"``, which turns to the loop where vmap cannot run the model.
        task: ``"classification"`` for logits, ``"regression"``, or None for neither; ``"auto"`` is classification where the
            output has a field ``logits`` and None otherwise.
        samples: whether the outputs of all passes are kept.
        memory: bytes that the passes which run at once may take, about. Default: 64 MiB.
        share_mask: whether all examples of all batches have the same mask in a pass, so that a pass is one smooth function.
        outputs: picks the tensor that counts from what the model returns; needed where that is not a tensor, one with a field
            ``logits``, or a container of one.
        class_dim: the dimension of the classes. Default: the last.
        progress: whether to show a bar on the standard error stream.

    Returns:
        The prediction. Batches are joined along the first dimension.

    Raises:
        InputError: for a value out of range, inputs that the model does not take, no site that acts, or an output that does not
            depend on the masks.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> model = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, 3))
        >>> found = mc_predict(model, torch.randn(5, 4), passes=100, task="classification")
        >>> found.mean.shape, found.mutual_information.shape, found.method
        (torch.Size([5, 3]), torch.Size([5]), 'vmap')

    References:
        Gal, Ghahramani: "Dropout as a Bayesian approximation: representing model uncertainty in deep learning", ICML 2016.
    """
    _check_choices(method, task, outputs)
    for name, value in (("samples", samples), ("share_mask", share_mask), ("progress", progress)):
        check_flag(value, name)
    number, indices, memory = check_seed(seed), pass_indices(passes), check_integer(memory, "memory", 62)
    check_acting(model, "mc_predict")
    parts, active, varies, picker, begin = list[dict[str, Tensor]](), None, False, Picker(outputs), 0
    with ExitStack() as undo:
        if "torch._dynamo" in sys.modules:  # parts that are compiled run as they are written: the passes are not what they saw
            undo.enter_context(torch.compiler.set_stance("force_eager"))
        undo.enter_context(unmoved(model))  # all else that a forward may write into the twin has for itself
        for step, batch in enumerate(shown(inputs, progress)):
            if active is None:
                with accepted(model, batch):
                    active, keep = active_twin(model, batch, where, rates)
                runner = Runner(active.model, method, memory, active.modules, not active.watched)
                if active.watched:
                    undo.enter_context(Acting(active))
            gathered, count = Gathered(task, class_dim, samples, picker), rows_in(batch)
            one = _pass_of(active.model, batch, picker, None if share_mask or count is None else (begin, count), share_mask)
            begin += count or 0
            with accepted(model, batch):
                for chunk in runner.run(one, pass_seeds(number, step if count is None and not share_mask else 0, indices)):
                    gathered.add(chunk, count)
            parts.append(gathered.tensors())
            task, varies = gathered.task, varies or gathered.varies
    if active is None:
        raise InputError("there is at least one batch", got=inputs, fix="Pass data; an iterator may have been used up")
    keep()
    found = joined(parts, {"passes": indices, "method": runner.method, "why": runner.why, "sites": tuple(active.names),
                          "task": task, "class_dim": class_dim})
    if len(indices) > 1 and not varies:
        raise _constant(active, found)
    return found


def _check_choices(method: Any, task: Any, outputs: Any) -> None:
    if method not in METHODS:
        raise InputError('method is "auto", "vmap" or "loop"', got=method, fix='Leave it at "auto"')
    if task not in _TASKS:
        raise InputError('task is "auto", "classification", "regression" or None', got=task,
                         fix='Pass "classification" where the output holds logits')
    if outputs is not None and not callable(outputs):
        raise InputError("outputs is a function that picks a tensor of the model's output", got=outputs,
                         fix='Pass one, as in outputs=lambda output: output["logits"]')


def _pass_of(model: nn.Module, inputs: Any, picker: Picker, rows: tuple[int, int] | None, share_mask: bool) -> Pass:
    def call(given: Any) -> Tensor:
        return picker(call_model(model, given))

    return SharedPass(call, inputs) if share_mask else Pass(call, inputs, rows)


def _constant(active: Active, found: MCPrediction) -> InputError:
    if found.mean.numel() == 0:
        return InputError("there is at least one example", got=phrase(f"outputs of shape {tuple(found.mean.shape)}"),
                          fix="Pass inputs that are not empty")
    names = ", ".join(name or "(model)" for name in active.names[:8]) + (", ..." if len(active.names) > 8 else "")
    return InputError("the output depends on the sites that act",
                      got=phrase(f"the same output in every pass; these act: {names}"),
                      fix="Choose sites that the output depends on, or pick another tensor of the output with outputs=")
