"""Errors that tell the rule, the value received and what to do."""

from __future__ import annotations

from typing import Any

# What a user's code may fail with: if it calls sys.exit, it has not done what it was called for, and is not to end dropkit.
FAILURES: tuple[type[BaseException], ...] = (Exception, SystemExit)


class DropkitError(Exception):
    """Base of every error that dropkit raises on purpose; its text is meant for the user."""


class InputError(DropkitError, ValueError):
    """A value breaks a rule.

    Args:
        rule: what must hold, as a clause without a full stop.
        got: the value received; shown by ``repr`` and shortened.
        fix: what to do about it, as a sentence without a full stop.

    Example:
        >>> str(InputError("a rate lies in [0, 1]", got=1.5, fix="Pass the probability of dropping, such as 0.5"))
        'a rate lies in [0, 1]; got 1.5. Pass the probability of dropping, such as 0.5.'
    """

    def __init__(self, rule: str, *, got: Any, fix: str) -> None:
        self.rule, self.got, self.fix = rule, got, fix
        super().__init__(f"{rule}; got {_short(got)}. {fix}.")

    def __reduce__(self) -> tuple[Any, ...]:  # keyword-only arguments do not survive the default pickling
        return _rebuild, (type(self), self.rule, self.got, self.fix)


class MissingExtraError(DropkitError, ImportError):
    """An optional dependency is not installed.

    Args:
        package: the import name that failed.
        extra: the dropkit extra that brings it.
    """

    def __init__(self, package: str, extra: str) -> None:
        self.package, self.extra = package, extra
        super().__init__(f"this needs the package {package!r}, which is not installed. "
                         f"Install it with: pip install 'dropkit[{extra}]'.")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.package, self.extra)


def _rebuild(kind: type[InputError], rule: str, got: Any, fix: str) -> InputError:
    return kind(rule, got=got, fix=fix)


def _short(value: Any, limit: int = 200) -> str:
    text = value if isinstance(value, _Verbatim) else repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."


class _Verbatim(str):
    """A phrase shown without quotes where a value has no useful ``repr``."""


def phrase(text: str) -> str:
    """Mark ``text`` to be shown without quotes as the value received.

    Args:
        text: a description such as ``"3 NaN in column 'age'"``.

    Example:
        >>> str(InputError("data holds no NaN", got=phrase("3 NaN in 'age'"), fix="Fill or drop them"))
        "data holds no NaN; got 3 NaN in 'age'. Fill or drop them."
    """
    return _Verbatim(text)
