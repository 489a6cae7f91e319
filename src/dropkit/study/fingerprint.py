"""The experiment's hash: what has to be the same for finished runs to count."""

from __future__ import annotations

import hashlib
import json
from importlib import metadata

import torch
from torch import nn

from dropkit.study.objectives import optimizer_name
from dropkit.study.prepare import Prepared, settled_model
from dropkit.study.sources import identity_of, source_and_values, source_of


def fingerprint(ready: Prepared) -> str:
    """Return a hexadecimal hash of everything a run's numbers depend on but its arm and seed.

    It covers the data's content, the model's structure, the source of the user's own classes and callables with the numbers
    and texts that these have from an enclosing function, the recipe, and the versions of torch and dropkit. Source of helpers
    that those call is not seen: after changing one, use a new folder.

    Args:
        ready: the experiment.
    """
    model = settled_model(ready, ready.arms[0])
    experiment = ready.experiment
    facts = {
        "data": ready.data.digest, "task": ready.data.task, "model": structure(model), "source": _sources(ready, model),
        "weights": [[name, list(tensor.shape), str(tensor.dtype)] for name, tensor in model.state_dict().items()],
        "epochs": experiment.epochs, "batch_size": experiment.batch_size, "optimizer": optimizer_name(experiment),
        "loss": ready.loss_name, "metric": ready.metric_name, "higher": ready.higher_is_better,
        "torch": torch.__version__, "dropkit": metadata.version("dropkit"),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def structure(model: nn.Module) -> str:
    """Return the model as text, without the dropout rates that arms set."""
    kept = {}
    for name, module in model.named_modules():
        own = "" if isinstance(module, nn.modules.dropout._DropoutNd) else module.extra_repr()
        kept[name] = f"{type(module).__name__}({own})"
    return "\n".join(f"{name}: {text}" for name, text in kept.items())


def _sources(ready: Prepared, model: nn.Module) -> list[str]:
    kinds = {type(module) for module in model.modules()}
    own = sorted((kind for kind in kinds if not kind.__module__.startswith(("torch.", "dropkit."))),
                 key=lambda kind: kind.__qualname__)
    experiment = ready.experiment
    callables = (experiment.model, experiment.train, experiment.loss, experiment.metric, experiment.optimizer)
    found = [*map(source_of, own), *(source_and_values(thing) for thing in callables if callable(thing))]
    return found if experiment.augment is None else [*found, identity_of(experiment.augment)]
