"""A study in brief on the terminal."""

from pathlib import Path

from dropkit.cli.summary import print_summary
from dropkit.study.result import Arm, Diagnosis, Provenance, StudyResult, Summary, Verdict

ABOUT = Summary(
    name="digits", task="classification", metric="accuracy", higher_is_better=True, unit="points", margin=0.005, epochs=1,
    batch_size=64, optimizer="adam", loss="cross_entropy", n_train=1, n_val=1, n_test=1, n_features=[64], n_outputs=10,
    model="", n_parameters=1, data="digits", data_hash="", experiment_hash="")


def test_findings_follow_the_verdict_a_line_each(capsys):
    dead = [Diagnosis("dead units", arm, f"Arm {arm!r} has dead units.", "40 %", "Lower the learning rate.")
            for arm in ("none", "intended")]
    print_summary(StudyResult(
        summary=ABOUT, arms=list[Arm](), seeds=[], runs=[], contrasts=[], cautions=["Few seeds."],
        verdict=Verdict("helps", "", "It helps.", "Use it.", "p"), provenance=Provenance("", {}, {}, {}, "", 0.0, 1, {}),
        diagnoses=[*dead, Diagnosis("misplaced", "intended", "It is before a BatchNorm.", "1.50", "Move it.")]),
        Path("report.html"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["It helps.", "Use it."]
    assert lines[-5:] == [
        "Caution: Few seeds.",
        "Finding (dead units): Arm 'none' has dead units. The same in 'intended'. Lower the learning rate.",
        "Finding (misplaced): It is before a BatchNorm. Move it.",
        "Setting: p", "Report:  report.html"]
