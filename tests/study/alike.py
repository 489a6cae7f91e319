"""Whether two sets of data hold the same values."""

from dataclasses import fields

import torch


def tensors(data):
    held = {field.name: getattr(data, field.name) for field in fields(data)}
    return {name: value for name, value in held.items() if isinstance(value, torch.Tensor)}


def same(one, other):
    one, other = tensors(one), tensors(other)
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
