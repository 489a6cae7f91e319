"""The list of checks, when each applies, and the one call that runs them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dropkit.core.errors import DropkitError, InputError
from dropkit.testing import integration, randomness, values
from dropkit.testing.subject import Subject, subject_from
from dropkit.variants.claims import Claims


class VariantError(DropkitError, AssertionError):
    """A dropout does not keep its promises; the text lists every check that failed."""


@dataclass(frozen=True)
class Check:
    """One property.

    Args:
        run: raises an AssertionError, or whatever the module raises, when the property does not hold.
        applies: tells from the claims whether there is anything to check.
    """

    run: Callable[[Subject], None]
    applies: Callable[[Subject], bool]

    @property
    def name(self) -> str:
        """The name by which to skip it."""
        return self.run.__name__


def _always(subject: Subject) -> bool:
    return True


def _rated(subject: Subject) -> bool:
    return subject.claims.rate is not None


def _random(subject: Subject) -> bool:
    return subject.claims.random


def _floating(subject: Subject) -> bool:
    return subject.floating


def _zeroing(subject: Subject) -> bool:
    claims = subject.claims
    return claims.realised_rate and claims.random and claims.rate is not None and subject.floating


CHECKS: tuple[Check, ...] = (
    Check(values.rate_can_change, _rated),
    Check(values.rate_zero_changes_nothing, _rated),
    Check(values.rate_one_drops_everything, lambda s: _rated(s) and s.claims.rate_one == "zeros" and s.floating),
    Check(values.rate_one_is_refused, lambda s: s.claims.rate_one == "refused"),
    Check(values.zeros_appear_at_the_rate, _zeroing),
    Check(values.kept_values_are_scaled_exactly, lambda s: s.claims.inverted),
    Check(values.mean_is_preserved, lambda s: s.claims.mean_preserving),
    Check(values.variance_is_preserved, lambda s: s.claims.variance_preserving),
    Check(values.evaluation_is_deterministic, _always),
    Check(values.training_acts_and_evaluation_does_not, _always),
    Check(values.dropped_infinities_become_zero, lambda s: _zeroing(s) and s.claims.eval_identity),
    Check(values.types_are_kept_and_share_masks, _floating),
    Check(values.integers_are_refused, _floating),
    Check(values.empty_batches_pass, _always),
    Check(values.memory_layout_does_not_matter, _floating),
    Check(values.single_examples_are_batches_of_one, lambda s: s.unbatched is not None),
    Check(values.extreme_rates_stay_finite, _rated),
    Check(values.writing_in_place, lambda s: s.claims.inplace),
    Check(randomness.manual_seed_governs, _random),
    Check(randomness.fork_rng_isolates, _random),
    Check(randomness.generator_decides, lambda s: _random(s) and s.call is not None),
    Check(randomness.keyed_is_reproducible, _random),
    Check(randomness.streams_tell_sites_apart, _random),
    Check(randomness.rate_zero_counts_as_a_use, lambda s: _random(s) and _rated(s)),
    Check(randomness.nothing_is_drawn, lambda s: not s.claims.random),
    Check(randomness.checkpoints_recompute_the_same, _floating),
    Check(randomness.vmap_modes, _random),
    Check(randomness.masks_do_not_depend_on_threads, _always),
    Check(integration.gradients_are_right, _floating),
    Check(integration.forward_mode_is_right, _floating),
    Check(integration.gradients_of_dropped_values_are_zero, lambda s: _zeroing(s) and s.claims.eval_identity),
    Check(integration.compiled_code_makes_the_same_masks, _always),
    Check(integration.changed_rates_compile_nothing, _rated),
    Check(integration.copies_and_pickles_behave_alike, _always),
    Check(integration.state_is_what_is_claimed, _always),
    Check(integration.meta_tensors_have_shapes, _always),
    Check(integration.libraries_recognise_it, lambda s: s.claims.recognised),
)
"""Every check, in the order in which they run."""


def check_variant(module: Any, inputs: Callable[[int], tuple[Any, ...]] | None = None, *, claims: Claims | None = None,
                  call: Callable[..., Any] | None = None, skip: Mapping[str, str] | None = None) -> list[str]:
    """Run the property suite of the catalog on a dropout of your own.

    Statistical checks have a false-alarm rate of 2 in 10^7 and fixed seeds; all others are exact.

    Args:
        module: the module, whose rate is then set through its attribute ``p``, or what makes one from a rate, such as
            its class.
        inputs: arguments of its ``forward`` for a batch of so many examples, the data first; normal data of shape
            (batch, 6, 10) by default.
        claims: what it promises; by default that it preserves the mean, zeroes with probability p, and is the identity
            in evaluation.
        call: its pure function, called as ``call(*inputs, p, training=..., generator=...)``; not checked when None.
        skip: checks that do not apply, by name, each with the reason.

    Returns:
        The names of the checks that passed.

    Raises:
        VariantError: lists every check that failed and what was found.
        InputError: for a check to skip that does not exist or has no reason.

    Example:
        >>> import torch, dropkit as dk
        >>> slow = {"compiled_code_makes_the_same_masks": "takes seconds", "changed_rates_compile_nothing": "takes seconds"}
        >>> passed = check_variant(dk.nn.Dropout2d, lambda n: (torch.randn(n, 4, 3, 3),), skip=slow)
        >>> "mean_is_preserved" in passed
        True
    """
    claims = claims or Claims(True, False, True, "", state=())
    subject, skipped = subject_from(module, inputs, claims, call), dict(skip or {})
    _check_skips(skipped)
    passed, failed = [], []
    for check in CHECKS:
        if check.name in skipped or not check.applies(subject):
            continue
        try:
            check.run(subject)
            passed.append(check.name)
        except Exception as error:  # whatever the module raises is the finding
            failed.append(f"  {check.name}: {type(error).__name__}: {' '.join(str(error).split())[:300]}")
    if failed:
        raise VariantError("\n".join([f"{len(failed)} of {len(failed) + len(passed)} checks failed:", *failed]))
    return passed


def _check_skips(skipped: Mapping[str, str]) -> None:
    names = {check.name for check in CHECKS}
    for name, reason in skipped.items():
        if name not in names:
            raise InputError("what is skipped is the name of a check", got=name,
                             fix="dropkit.testing.CHECKS lists them")
        if not isinstance(reason, str) or not reason.strip():
            raise InputError("a check is skipped for a reason", got={name: reason}, fix="Give the reason as text")
