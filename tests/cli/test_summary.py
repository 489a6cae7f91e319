"""A study in brief on the terminal."""

from dataclasses import replace
from pathlib import Path

import pytest
from tests.report import factory

from dropkit.cli.summary import print_summary
from dropkit.study.result import Arm, Diagnosis, Provenance, Run, StudyResult, Summary, Verdict

ABOUT = Summary(
    name="digits", task="classification", metric="accuracy", higher_is_better=True, unit="points", margin=0.005, epochs=1,
    batch_size=64, optimizer="adam", loss="cross_entropy", n_train=1, n_val=1, n_test=1, n_features=[64], n_outputs=10,
    model="", n_parameters=1, data="digits", data_hash="", experiment_hash="")
RESULT = StudyResult(
    summary=ABOUT, arms=list[Arm](), seeds=[], runs=[], contrasts=[], cautions=["Few seeds."], diagnoses=[],
    verdict=Verdict("helps", "", "It helps.", "Use it.", "p"), provenance=Provenance("", {}, {}, {}, "", 0.0, 1, {}))


def test_findings_follow_the_verdict_a_line_each(capsys):
    dead = [Diagnosis("dead units", arm, f"Arm {arm!r} has dead units.", "40 %", "Lower the learning rate.")
            for arm in ("none", "intended")]
    found = [*dead, Diagnosis("misplaced", "intended", "It is before a BatchNorm.", "1.50", "Move it.")]
    print_summary(replace(RESULT, diagnoses=found), Path("report.html"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["It helps.", "Use it."]
    assert lines[-5:] == [
        "Caution: Few seeds.",
        "Finding (dead units): Arm 'none' has dead units. The same in 'intended'. Lower the learning rate.",
        "Finding (misplaced): It is before a BatchNorm. Move it.",
        "Setting: p", "Report:  report.html"]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_verdicts_and_effects_are_told_whole(width, capsys, monkeypatch):
    """Long names of arms fold; numbers and verdicts stay readable on any terminal."""
    monkeypatch.setenv("COLUMNS", str(width))
    result = factory.factorial()
    print_summary(result, Path("report.html"))
    lines = capsys.readouterr().out.splitlines()
    for contrast in result.contrasts:
        numbers = f"{100 * contrast.low:+.2f} to {100 * contrast.high:+.2f}"
        line = next(line for line in lines if numbers in line)
        assert line.split()[-1] == contrast.kind
    found = [line for line in lines if " to " in line][len(result.contrasts):]
    worth = list(result.effects().itertuples())
    assert len(found) == len(worth) == 6
    for line, effect in zip(found, worth, strict=True):
        assert f"{100 * effect.difference:+.2f}" in line
        assert line.split()[-1] == effect.verdict.split()[-1]


def test_a_long_arm_is_told_whole_on_a_narrow_terminal(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    name = "weight_decay=0.001+batch_norm+label_smoothing=0.1+early_stopping"
    run = Run(name, 0, "finished", *[None] * 7, 0.5, *[None] * 5, {})
    print_summary(replace(RESULT, arms=[Arm(name, "", [])], runs=[run]), Path("report.html"))
    shown = capsys.readouterr().out
    assert name in "".join(line.split()[0] for line in shown.splitlines() if line.strip())
    assert "50.00%" in shown
