"""What arms are called in sentences."""

from __future__ import annotations

from collections.abc import Mapping

from dropkit.study.result import Arm, Contrast

NO_DROPOUT = "no dropout"
"""How the description of an arm begins whose rates are all 0."""
STILL_SOME = "no dropout but what the study does not set"
"""How it begins where the model drops at places that the study cannot reach."""


def drops(arm: Arm) -> bool:
    """Tell whether the arm has a rate above 0 anywhere."""
    return any(site.p > 0 for site in arm.sites)


def asks_dropout(arms: Mapping[str, Arm], found: Contrast) -> bool:
    """Tell whether the contrast is dropout against none, and not two ways of using it or some other remedy."""
    reference, arm = arms[found.reference], arms[found.arm]
    return not _keeps_some(reference) and drops(arm) and arm.recipe == reference.recipe


def left_out(arms: Mapping[str, Arm], found: Contrast) -> list[str]:
    """Return the sites that an arm leaves out of its reference's, where that is all in which they differ; else none."""
    reference, arm = arms[found.reference], arms[found.arm]
    before = {site.name: site.p for site in reference.sites}
    if arm.recipe != reference.recipe or not drops(arm):
        return []
    changed = [site for site in arm.sites if site.p != before.get(site.name)]
    return [site.name for site in changed] if all(site.p == 0 for site in changed) else []


def subject(arms: Mapping[str, Arm], found: Contrast) -> str:
    """Return what the contrast is about, as a sentence begins with it: ``Dropout``, ``Weight decay 0.001``, ``Arm 'x'``.

    Args:
        arms: by name.
        found: the contrast.
    """
    reference, arm = arms[found.reference], arms[found.arm]
    if asks_dropout(arms, found):
        return "Dropout"
    if sites := left_out(arms, found):
        return f"Leaving out dropout at {', '.join(map(repr, sites))}"
    if reference.recipe.changes() or not arm.recipe.changes():
        return f"Arm {found.arm!r}"
    words, alike = arm.recipe.words(), _rates(arm) == _rates(reference)
    if not alike and drops(reference):
        return f"Arm {found.arm!r}"
    if set(arm.recipe.changes()) == {"variant"}:
        words = str(arm.recipe.variant).replace("_", " ")
    elif not alike:
        words = f"dropout with {words}"
    return words[0].upper() + words[1:]


def against(arms: Mapping[str, Arm], found: Contrast) -> str:
    """Return the reference as a sentence ends with it: ``without``, ``with neither``, ``with the intended rates``."""
    reference, arm = arms[found.reference], arms[found.arm]
    if _keeps_some(reference) or reference.recipe.changes():
        return f"with {arm_words(found.reference)}"
    both = drops(arm) and set(arm.recipe.changes()) - {"variant", "schedule", "classic"}
    return "with neither" if both else "without"


def arm_words(name: str) -> str:
    """Return an arm's name as it stands inside a sentence.

    Example:
        >>> arm_words("intended"), arm_words("batch_norm")
        ('the intended rates', "arm 'batch_norm'")
    """
    return f"the {name} rates" if name in ("intended", "reduced") else f"arm {name!r}"


def _keeps_some(arm: Arm) -> bool:
    return drops(arm) or arm.description.startswith(STILL_SOME)


def _rates(arm: Arm) -> dict[str, float]:
    return {site.name: site.p for site in arm.sites}
