"""What `dropkit.tune` returns: the search, and the study that confirms what it found."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dropkit.core.errors import InputError, phrase
from dropkit.core.files import write_atomically
from dropkit.study.contrasts import contrasts
from dropkit.study.result import Contrast, StudyResult, Verdict, load_result
from dropkit.study.tuning.record import Tuning, tuning_from

if TYPE_CHECKING:
    import pandas

SCHEMA = 1
CONFIRM = "confirm"
"""Folder of the confirming study inside the tuning's."""
FILE = "tuning.json"


@dataclass(frozen=True)
class TuneResult:
    """Tuned rates and what fresh seeds and unseen test data say of them.

    ``study`` is the confirming study, with the arms ``none``, ``intended`` and ``tuned`` where these differ; None where
    neither the model nor the tuning drops anything. ``tuned_arm`` is the arm with the tuned rates.
    """

    tuning: Tuning
    study: StudyResult | None
    tuned_arm: str
    out: str

    @property
    def rates(self) -> dict[str, float]:
        """The tuned rate of each site, by its name."""
        return self.tuning.site_rates()

    @property
    def verdict(self) -> Verdict | None:
        """The confirming study's verdict."""
        return None if self.study is None else self.study.verdict

    @property
    def against_intended(self) -> Contrast | None:
        """The tuned rates against the intended ones on the confirming study's test data, or None where they are alike."""
        if self.study is None or self.tuned_arm != "tuned" or "intended" not in {arm.name for arm in self.study.arms}:
            return None
        scores = {arm: {run.seed: run.test_metric for run in self.study.of_arm(arm)} for arm in ("intended", "tuned")}
        return contrasts(scores, "intended", self.study.summary.higher_is_better, self.study.summary.margin)[0]

    def table(self) -> pandas.DataFrame:
        """Return a row a trial: rates, mean validation metric, status and origin, best first."""
        import pandas

        rows = [{"trial": trial.index, **trial.rates, self.tuning.metric: trial.value, "status": trial.status,
                 "origin": trial.origin} for trial in self.tuning.trials]
        found = pandas.DataFrame(rows).set_index("trial")
        return found.sort_values(self.tuning.metric, ascending=not self.tuning.higher_is_better, kind="stable")

    def report(self, path: str | os.PathLike[str] | None = None) -> Path:
        """Write the confirming study's report, which has a section on the tuning, and return its path.

        Args:
            path: the file; ``report.html`` in the tuning's folder by default.

        Raises:
            InputError: there is no confirming study.
            MissingExtraError: the extra ``report`` is not installed.
        """
        if self.study is None:
            raise InputError("a report needs a confirming study", got=phrase("rates of 0 at every site, tuned and intended"),
                             fix="There is nothing to compare: the model is best without dropout")
        return self.study.report(path if path is not None else Path(self.out) / "report.html")


def save_tuning(tuning: Tuning, folder: Path) -> Path:
    """Write the search as JSON, whole or not at all, and return the path."""
    text = json.dumps({"schema": SCHEMA, **asdict(tuning)}, indent=1, allow_nan=False)
    return write_atomically(folder / FILE, text + "\n")


def load_tuned(folder: str | os.PathLike[str]) -> TuneResult:
    """Read a finished tuning.

    Args:
        folder: what was given to `dropkit.tune` as ``out``.

    Raises:
        InputError: the folder holds no finished tuning.
    """
    place = Path(folder)
    try:
        raw = json.loads((place / FILE).read_text(encoding="utf-8"))
        if raw.pop("schema") != SCHEMA:
            raise KeyError("schema")
        tuning = tuning_from(raw)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError("the folder holds a finished tuning", got=phrase(f"{folder}: {type(error).__name__}: {error}"),
                         fix="Run the same `dropkit tune` command to finish it") from error
    has_study = (place / CONFIRM / "result.json").exists()
    study = load_result(place / CONFIRM) if has_study else None
    return TuneResult(tuning, study, tuned_arm(tuning, study), str(place))


def tuned_arm(tuning: Tuning, study: StudyResult | None) -> str:
    """Return the name of the arm that has the tuned rates."""
    rates = tuning.site_rates()
    arms = [] if study is None else study.arms
    return next((arm.name for arm in arms if {site.name: site.p for site in arm.sites} == rates), "none")
