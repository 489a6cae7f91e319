"""Models of the package ``transformers``, built from a configuration without weights."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dropkit.audit.builders import is_rate
from dropkit.cli.extras import need
from dropkit.core.errors import FAILURES, InputError, phrase

_BATCH, _LENGTH = 2, 16


class Configured:
    """Builds a model with random weights, from a configuration whose fields can be replaced.

    Args:
        text: a model type such as ``"bert"``, or the path of a ``config.json``; fields that replace the configuration's may
            follow: ``"bert,num_hidden_layers=2"``.

    Raises:
        InputError: there is no such type, file or field.
        MissingExtraError: transformers is not installed.
    """

    def __init__(self, text: str) -> None:
        need("cli", "transformers")
        self.__name__ = self.name = text.partition(",")[0]
        try:
            self.fields = dict(_field(part) for part in text.split(",")[1:])
            known, found = _configuration(self.name, {}), _configuration(self.name, self.fields).to_dict()
        except FAILURES as error:
            raise InputError(f"transformers knows {self.name!r}", got=phrase(f"{type(error).__name__}: {error}"),
                             fix="Name a model type such as bert, or a config.json") from error
        for field in self.fields:
            if not hasattr(known, field):  # a configuration takes any name, and does nothing with it
                raise InputError(f"a field of {self.name}'s configuration is named", got=field,
                                 fix="Name one of its configuration class's")
        self.rates = tuple(name for name, value in found.items() if "drop" in name and is_rate(value))

    def __call__(self, **rates: float) -> nn.Module:
        """Build the model.

        Args:
            **rates: fields of the configuration.
        """
        import transformers

        config = _configuration(self.name, {**self.fields, **rates})
        kind = getattr(transformers, (config.architectures or [""])[0], None)
        model: nn.Module = kind(config) if kind is not None else _generic(config)
        return model


def inputs(model: Any) -> dict[str, Tensor]:
    """Inputs that fit a model of transformers: token ids with a mask, or pictures.

    Args:
        model: it.

    Raises:
        InputError: it takes something else.
    """
    config, main = model.config, model.main_input_name
    generator = torch.Generator().manual_seed(0)
    if main == "pixel_values" and hasattr(config, "image_size"):
        size = config.image_size if isinstance(config.image_size, list | tuple) else (config.image_size, config.image_size)
        return {main: torch.randn(_BATCH, getattr(config, "num_channels", 3), *size, generator=generator)}
    text = config.get_text_config()
    if main != "input_ids" or not getattr(text, "vocab_size", 0):
        raise InputError("inputs are made for models of tokens or pictures", got=phrase(f"one of {main}"),
                         fix="Give --input NAME=SHAPE")
    low = min(5, text.vocab_size - 1)  # the first ids are often padding and marks
    made = {main: torch.randint(low, text.vocab_size, (_BATCH, _LENGTH), generator=generator),
            "attention_mask": torch.ones(_BATCH, _LENGTH, dtype=torch.int64)}
    if getattr(config, "is_encoder_decoder", False):
        made["decoder_input_ids"] = torch.randint(low, text.vocab_size, (_BATCH, _LENGTH), generator=generator)
    return made


def _configuration(name: str, fields: dict[str, Any]) -> Any:
    import transformers

    content = dict(fields)
    if name.endswith(".json"):
        content = {**json.loads(Path(name).read_text(encoding="utf-8")), **fields}
        name = content.pop("model_type")
    return transformers.AutoConfig.for_model(name, **content)


def _generic(config: Any) -> nn.Module:
    from transformers import AutoModel

    make: Any = AutoModel.from_config  # not annotated there
    model: nn.Module = make(config)
    return model


def _field(text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value
