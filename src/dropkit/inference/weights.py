"""Put a checkpoint's weights into a model."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dropkit.core.errors import InputError, phrase

_INSIDE = ("state_dict", "model_state_dict", "model", "net", "weights")
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.")


def load_weights(model: nn.Module, path: str | os.PathLike[str]) -> nn.Module:
    """Load a state_dict into a model, in place.

    The file may hold the state_dict itself, or a checkpoint that holds it as ``state_dict`` (as Lightning's do),
    ``model_state_dict``, ``model``, ``net`` or ``weights``. A prefix that all keys share and the model does not have, such as
    ``module.`` of ``DataParallel`` or ``model.`` of a LightningModule, is taken off. Nothing is unpickled but tensors and plain
    values (``weights_only=True``).

    Args:
        model: whose parameters and buffers are set.
        path: a file that ``torch.save`` made.

    Returns:
        The model.

    Raises:
        InputError: for a file that holds no such thing, or weights of another model.

    Example:
        >>> import tempfile
        >>> model = nn.Linear(2, 1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     torch.save({"state_dict": {"model.weight": torch.ones(1, 2), "model.bias": torch.zeros(1)}}, f"{folder}/w.pt")
        ...     load_weights(model, f"{folder}/w.pt").weight.tolist()
        [[1.0, 1.0]]
    """
    file = Path(path).expanduser()
    state = _fitting(_state_of(_loaded(file), file.name), set(model.state_dict()))
    apart = _differences(model, state)
    if apart:  # before anything is loaded: a model is not left half new
        raise InputError("a checkpoint holds the weights of the model", got=phrase(f"{file.name} with {apart}"),
                         fix="Build the model as it was trained, or name another checkpoint")
    model.load_state_dict(state)
    return model


def _loaded(file: Path) -> Any:
    try:
        with file.open("rb") as opened:  # torch leaves a file open that it opened itself and cannot read
            return torch.load(opened, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InputError("the file of weights exists", got=str(file), fix="Check the path") from error
    except IsADirectoryError as error:
        raise InputError("weights are in a file", got=str(file), fix="Name the file, such as model.pt") from error
    except OSError:
        raise
    except Exception as error:  # a damaged file makes the reader raise almost anything
        raise InputError("a file of weights holds tensors, as torch.save(model.state_dict(), path) writes them",
                         got=phrase(f"{file.name}, which holds something else"),
                         fix="Save the state_dict; a pickled model is not loaded, because that would run its code") from error


def _state_of(found: Any, name: str) -> dict[str, Tensor]:
    for inside in ("", *_INSIDE):
        state = found if not inside else found.get(inside) if isinstance(found, Mapping) else None
        if isinstance(state, Mapping) and state and all(isinstance(value, Tensor) for value in state.values()):
            return {str(key): value for key, value in state.items()}
    held = ", ".join(map(str, list(found)[:8])) if isinstance(found, Mapping) else type(found).__name__
    raise InputError(f"a checkpoint is a state_dict, or holds one as {', '.join(_INSIDE)}", got=phrase(f"{held} in {name}"),
                     fix="Save model.state_dict()")


def _fitting(state: dict[str, Tensor], wanted: set[str]) -> dict[str, Tensor]:
    for _ in range(len(_PREFIXES)):
        prefix = next((start for start in _PREFIXES if all(key.startswith(start) for key in state)), None)
        if prefix is None or set(state) <= wanted:
            break
        state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def _differences(model: nn.Module, state: dict[str, Tensor]) -> str:
    own = model.state_dict()
    missing, more = sorted(set(own) - set(state)), sorted(set(state) - set(own))
    shapes = [f"{key} of shape {tuple(state[key].shape)} for {tuple(own[key].shape)}" for key in own
              if key in state and state[key].shape != own[key].shape]
    said = [f"{title} {', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''}" for title, keys in (
        ("no", missing), ("also", more), ("", shapes)) if keys]
    return "; ".join(part.strip() for part in said)
