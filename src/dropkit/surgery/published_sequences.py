"""Published dropout of recurrent networks and transformers."""

from __future__ import annotations

from typing import Any

from torch import nn

from dropkit.core.errors import InputError
from dropkit.surgery.modules import kind_of, rate_attribute
from dropkit.surgery.recipe import AppliedPreset, begin, misfit, modules_of, names_of
from dropkit.surgery.residual import residual_branches
from dropkit.surgery.sources import MERITY, VASWANI, ZAREMBA
from dropkit.surgery.trace import Call, trace
from dropkit.variants.dropout import Dropout
from dropkit.variants.embedding import EmbeddingDropout
from dropkit.variants.locked import LockedDropout
from dropkit.variants.weight_drop import WeightDrop

_ATTENTION = {"softmax", "scaled_dot_product_attention", "multi_head_attention_forward"}


def awd_lstm(model: nn.Module, inputs: Any = None) -> AppliedPreset:
    """The dropout of AWD-LSTM: 0.5 of recurrent weights, 0.1 of words, and one mask for all steps elsewhere.

    That is 0.4 on the word vectors, 0.3 between LSTMs and 0.4 after the last one, as for Penn Treebank; the paper takes 0.65 on
    the word vectors for WikiText-2. The embedding becomes an ``EmbeddingDropout``, an ``nn.LSTM`` of several layers a
    ``VariationalLSTM``, and each LSTM is wrapped in a ``WeightDrop``; keys of the ``state_dict`` stay.

    Args:
        model: an ``nn.Embedding`` and one ``nn.LSTM`` or several; changed in place.
        inputs: not needed.

    Raises:
        InputError: for a model without them.

    Example:
        >>> model = nn.ModuleDict({"words": nn.Embedding(9, 4), "lstm": nn.LSTM(4, 4)})
        >>> [(site.name, site.p) for site in awd_lstm(model).sites]
        [('words', 0.1), ('words.after_dropout', 0.4), ('lstm', 0.5), ('lstm.after_dropout', 0.4)]
    """
    modules = modules_of(model)
    embeddings, layers = names_of(modules, nn.Embedding), names_of(modules, nn.LSTM)
    if not embeddings or not layers or "" in layers:
        raise misfit("awd_lstm", model, "an nn.Embedding and an nn.LSTM")
    first, lstms = embeddings[0], [modules[name] for name in layers]
    embedding, time_first = modules[first], not getattr(lstms[0], "batch_first", False)
    if embedding._forward_hooks or embedding._forward_pre_hooks:
        raise InputError("an embedding that is replaced has no hooks, which would be lost", got=first,
                         fix="Remove the hooks, apply the preset, and register them on the new module")
    with begin(model) as steps:
        steps.replace(first, EmbeddingDropout(embedding, 0.1))
        for name, lstm in zip(layers, lstms, strict=True):
            if getattr(lstm, "num_layers", 1) > 1:
                steps.set_between(name, 0.3, per="sequence")
            steps.replace(name, WeightDrop(lstm, 0.5).train(lstm.training))
        rates = {first: 0.4, **dict.fromkeys(layers, 0.3), layers[-1]: 0.4}
        steps.insert({name: LockedDropout(rate, batch_first=not time_first) for name, rate in rates.items()})
    return steps.done("awd_lstm", MERITY)


def zaremba_medium(model: nn.Module, inputs: Any = None) -> AppliedPreset:
    """Dropout of 0.5 before, between and after LSTM layers, and never on the recurrence: the medium model, of 650 units.

    Args:
        model: one ``nn.LSTM`` or several; changed in place.
        inputs: not needed.

    Raises:
        InputError: for a model without an LSTM.

    Example:
        >>> [(site.name, site.p) for site in zaremba_medium(nn.ModuleList([nn.LSTM(4, 4, 2)])).sites]
        [('0', 0.5), ('0.before_dropout', 0.5), ('0.after_dropout', 0.5)]
    """
    return _zaremba("zaremba_medium", model, 0.5)


def zaremba_large(model: nn.Module, inputs: Any = None) -> AppliedPreset:
    """Dropout of 0.65 before, between and after LSTM layers, and never on the recurrence: the large model, of 1,500 units.

    Args:
        model: one ``nn.LSTM`` or several; changed in place.
        inputs: not needed.

    Raises:
        InputError: for a model without an LSTM.

    Example:
        >>> zaremba_large(nn.ModuleList([nn.LSTM(4, 4)])).sites[0].p
        0.65
    """
    return _zaremba("zaremba_large", model, 0.65)


def transformer_base(model: nn.Module, inputs: Any) -> AppliedPreset:
    """Dropout of 0.1 at the end of each sub-layer, before it is added, and on the sums of embeddings and positions.

    Dropout that is at such a place already gets the rate; elsewhere it is put in.

    Args:
        model: a transformer; changed in place.
        inputs: a batch, to find residual branches.

    Raises:
        InputError: for a model without attention or residual branches.

    Example:
        >>> import torch
        >>> layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.3, batch_first=True)
        >>> [(site.name, site.p) for site in transformer_base(layer, torch.ones(2, 3, 8)).sites]
        [('dropout1', 0.1), ('dropout2', 0.1)]
    """
    modules = modules_of(model)
    watched = trace(model, inputs)
    if not any(node.operation in _ATTENTION for node in watched.nodes):
        raise misfit("transformer_base", model, "attention")
    branches, notes = residual_branches(watched)
    if not branches:
        raise misfit("transformer_base", model, "residual branches around its layers")
    ends = list(dict.fromkeys(branch.module for branch in branches))
    starts = {branch.block.rpartition(".")[0]: branch.block for branch in reversed(branches)}.values()
    entries = {call.name: call for call in watched.calls if call.name in starts}
    with begin(model) as steps:
        steps.notes.extend(notes)
        present = [name for name in ends if _is_plain(modules[name])]
        put_after = [name for name in ends if name not in present]
        put_before: list[str] = []
        for name, call in entries.items():
            _enter_stack(name, call, modules, present, put_before, steps.notes)
        if present:
            steps.set_rate(dict.fromkeys(present, 0.1))
        for names, where in ((put_after, "after"), (put_before, "before")):
            if names:
                steps.insert({name: Dropout(0.1) for name in names}, where)
    return steps.done("transformer_base", VASWANI)


def _zaremba(name: str, model: nn.Module, p: float) -> AppliedPreset:
    modules = modules_of(model)
    layers = names_of(modules, nn.LSTM)
    if not layers:
        raise misfit(name, model, "an nn.LSTM")
    with begin(model) as steps:
        for layer in layers:
            if getattr(modules[layer], "num_layers", 1) > 1:
                steps.set_between(layer, p)
        steps.insert({layers[0]: Dropout(p)}, "before")
        steps.insert({layer: Dropout(p) for layer in layers})
    return steps.done(name, ZAREMBA)


def _enter_stack(name: str, call: Call, modules: dict[str, nn.Module], present: list[str], put: list[str],
                 notes: list[str]) -> None:
    """Where the sum of embeddings and positions comes in: at a dropout that is there, or before the first block."""
    node = call.takes
    while node is not None and node.operation != "input":
        there = next((made.name for made, _ in node.made_by if _is_plain(modules[made.name])), None)
        if there is not None:
            present.append(there)
            return
        if node.operation != "identity":
            put.append(name)
            return
        node = node.parents[0]
    notes.append(f"what enters {name or 'the model'!r} is an input: drop the sums of embeddings where they are made")


def _is_plain(module: nn.Module) -> bool:
    return kind_of(module) == "dropout" and rate_attribute(module) is not None
