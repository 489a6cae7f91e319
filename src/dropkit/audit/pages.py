"""What there is to say of a rule: for the documentation and for the command line."""

from __future__ import annotations

from dropkit.audit.rule import Rule
from dropkit.audit.rules import rules
from dropkit.core.errors import InputError
from dropkit.explain.sections import plain


def find_rule(name: str) -> Rule:
    """A rule by its id.

    Args:
        name: the id, in any case.

    Raises:
        InputError: there is no such rule.

    Example:
        >>> find_rule("dk201").id
        'DK201'
    """
    found = next((rule for rule in rules() if rule.id == name.upper()), None)
    if found is None:
        raise InputError("a rule is named by its id", got=name, fix=f"Known are {', '.join(rule.id for rule in rules())}")
    return found


def rule_page(rule: Rule) -> str:
    """A rule's page of the documentation, in Markdown.

    Args:
        rule: any.
    """
    return "\n".join([
        f"# {rule.id}: {rule.title}", "", f"Severity: {rule.severity}. Confidence: {rule.confidence}.", "",
        "## Why", "", rule.why, "", "## Fix", "", rule.fix, "",
        "## Flagged", "", f"```python\n{rule.bad.strip()}\n```", "",
        "## Not flagged", "", f"```python\n{rule.good.strip()}\n```", "",
        *(["## References", "", *(f"- {source}" for source in rule.references), ""] if rule.references else []),
        f"What is meant is allowed where it stands, with the reason: `# dropkit: allow {rule.id} (reason)`.", ""])


def rule_text(rule: Rule) -> str:
    """The same for a terminal.

    Args:
        rule: any.
    """
    parts = [f"{rule.id}  {rule.title}  ({rule.severity}, confidence {rule.confidence})"]
    for title, text in (("Why", plain(rule.why)), ("Fix", plain(rule.fix)), ("Flagged", rule.bad.strip()),
                        ("Not flagged", rule.good.strip()), ("References", "\n".join(rule.references))):
        parts += [title, "\n".join(f"  {line}".rstrip() for line in text.splitlines())] if text else []
    return "\n\n".join(parts)
