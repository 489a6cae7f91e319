"""A study in brief on the terminal."""

from dataclasses import replace
from pathlib import Path

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


def test_a_long_arm_is_told_whole_on_a_narrow_terminal(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    name = "weight_decay=0.001+batch_norm+label_smoothing=0.1+early_stopping"
    run = Run(name, 0, "finished", *[None] * 7, 0.5, *[None] * 5, {})
    print_summary(replace(RESULT, arms=[Arm(name, "", [])], runs=[run]), Path("report.html"))
    shown = capsys.readouterr().out
    assert name in "".join(line.split()[0] for line in shown.splitlines() if line.strip())
    assert "50.00%" in shown
