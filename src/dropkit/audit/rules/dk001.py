"""DK001: an allowance without a reason."""

from dropkit.audit.rule import Rule

RULE = Rule(
    id="DK001",
    title="A comment allows a finding and gives no reason",
    why="Whoever reads `# dropkit: allow DK101` a year later cannot tell whether dropout is meant to be active there or "
        "whether somebody wanted the warning to go away. A comment without a reason allows nothing.",
    fix="Write the reason in brackets. `# dropkit: allow DK101 (the decoder samples at test time)` is enough.",
    severity="note",
    confidence="high",
    bad="""\
y = drop(x)  # dropkit: allow DK101
""",
    good="""\
y = drop(x)  # dropkit: allow DK101 (the decoder samples at test time)
""",
    references=(),
)
