"""``dropkit report``: one study's page, the comparison of two, the schema."""

import json

import jsonschema
import pytest
from tests.report import factory

from dropkit.cli.main import main


@pytest.fixture
def folders(tmp_path):
    for name, epochs in (("a", 12), ("b", 40)):
        (tmp_path / name).mkdir()
        factory.classification(epochs=epochs, seeds=5).save(tmp_path / name / "result.json")
    return str(tmp_path / "a"), str(tmp_path / "b")


def test_two_studies_are_compared(folders, tmp_path, capsys):
    assert main(["report", *folders]) == 0
    shown = capsys.readouterr().out
    assert "a: Dropout helps" in shown
    assert "b better by" in shown
    assert "not corrected for the 3 arms" in shown
    assert "Two studies compared" in (tmp_path / "b" / "comparison.html").read_text(encoding="utf-8")
    assert main(["report", *folders, "--out", str(tmp_path / "other" / "page.html")]) == 0
    assert (tmp_path / "other" / "page.html").exists()


def test_a_tuning_is_told_by_the_study_that_confirms_it(folders, tmp_path, capsys):
    (tmp_path / "tuned" / "confirm").mkdir(parents=True)
    (tmp_path / "tuned" / "tuning.json").write_text("{}")
    factory.classification(epochs=12, seeds=5).save(tmp_path / "tuned" / "confirm" / "result.json")
    tuned = str(tmp_path / "tuned")
    assert main(["report", tuned]) == 0
    assert (tmp_path / "tuned" / "report.html").exists()
    assert main(["report", folders[0], tuned]) == 0
    assert "tuned better by" in capsys.readouterr().out
    assert (tmp_path / "tuned" / "comparison.html").exists()


def test_studies_by_other_metrics_are_refused_in_a_line(folders, tmp_path, capsys):
    factory.regression().save(tmp_path / "b" / "result.json")
    assert main(["report", *folders]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert "accuracy and rmse" in shown.err


def test_schema_is_printed_and_the_study_keeps_to_it(folders, tmp_path, capsys):
    assert main(["report", "--schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    jsonschema.validate(json.loads((tmp_path / "a" / "result.json").read_text()), schema)


def test_no_folder_is_refused_in_a_line(capsys):
    assert main(["report"]) == 2
    assert "Name the study's folder" in capsys.readouterr().err
