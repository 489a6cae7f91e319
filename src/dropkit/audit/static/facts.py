"""What is known of a model's mode at a line of a program."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import libcst as cst

TRAIN, EVAL, UNKNOWN = frozenset({"train"}), frozenset({"eval"}), frozenset({"?"})
AS_TRAINED = frozenset({"as trained"})  # in the mode, whichever it is, in which it took its last gradient step


@dataclass(frozen=True, eq=False)
class Cell:
    """A model that a program's variables name."""

    name: str
    plain: bool = False  # built of classes in this file that have nothing whose mode matters


@dataclass(frozen=True)
class Facts:
    """What is known of a model.

    Args:
        mode: in which modes it may be: a subset of ``{"train", "eval", "as trained", "?"}``.
        trained: whether it has been trained, or has been given trained weights, since it was last switched by hand.
        loaded: whether its weights were read from somewhere and it has not been trained since.
        prepared: whether quantisation observers watch it.
        switched: the call of ``eval()`` that put it into its mode, with whether that call is in a loop.
    """

    mode: frozenset[str] = UNKNOWN
    trained: bool = False
    loaded: bool = False
    prepared: bool = False
    switched: cst.CSTNode | None = None
    in_loop: bool = False

    def merged(self, other: Facts) -> Facts:
        """What is known where two ways through the program meet."""
        late = self if self.switched is not None else other
        return Facts(self.mode | other.mode, self.trained or other.trained, self.loaded or other.loaded,
                     self.prepared or other.prepared, late.switched, self.in_loop or other.in_loop)


class State(dict[Cell, Facts]):
    """What is known of every model; copied at a branch."""

    def __missing__(self, cell: Cell) -> Facts:
        return Facts()

    def change(self, cell: Cell, **facts: Any) -> None:
        """Replace some of a model's facts."""
        self[cell] = replace(self[cell], **facts)

    def forget(self) -> None:
        """Know no model's mode any longer."""
        for cell in self:
            self.change(cell, mode=UNKNOWN, switched=None)

    def merged(self, other: State) -> State:
        """What is known where two ways meet."""
        return State({cell: self[cell].merged(other[cell]) for cell in {**self, **other}})


@dataclass(frozen=True)
class Frame:
    """A function that is being read.

    Args:
        name: of the function; empty for the module.
        names: models by variable.
        own: models by attribute of ``self``.
        functions: functions defined in it.
        owner: the class whose method it is.
        depth: how many calls lead to it.
    """

    name: str = ""
    names: dict[str, Cell] = field(default_factory=dict)
    own: dict[str, Cell] = field(default_factory=dict)
    functions: dict[str, cst.FunctionDef] = field(default_factory=dict)
    owner: cst.ClassDef | None = None
    depth: int = 0


@dataclass(frozen=True)
class Context:
    """What surrounds a statement: gradients off, an evaluation loop, a loop at all, the words of what loops run over.

    `phases` is whether a loop goes through training and evaluation by name.
    """

    no_grad: bool = False
    evaluating: bool = False
    loop: bool = False
    over: frozenset[str] = frozenset()
    phases: bool = False
