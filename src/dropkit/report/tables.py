"""The report's tables, as rows of ready text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dropkit.report import words
from dropkit.report.numbers import ABSENT, Scale, deviation, duration, known, mean, number, p_value
from dropkit.report.words import counted, verdict_words
from dropkit.study.effects import effects as find_effects
from dropkit.study.result import Run, StudyResult


@dataclass(frozen=True)
class Row:
    """A row: its heading, the number of the arm it belongs to (for the swatch) or None, and its cells."""

    name: str
    arm: int | None
    cells: list[str]


@dataclass(frozen=True)
class Table:
    """A table: its title, the column headings (the first heads the rows), the rows, and a note under it."""

    title: str
    columns: list[str]
    rows: list[Row]
    note: str = ""


def arms(result: StudyResult) -> Table:
    """Tabulate the arms: test metric and what came with it, as mean and standard deviation over the seeds."""
    scale = Scale.of(result.summary)
    columns: list[tuple[str, Callable[[Run], float | None]]] = [
        ("NLL", lambda run: run.nll), ("Brier", lambda run: run.brier), ("ECE", lambda run: run.ece)]
    filled = [column for column in columns if known(column[1](run) for run in result.runs)]
    if "NLL" not in [name for name, _ in filled]:
        filled.insert(0, ("test loss", lambda run: run.test_loss))
    rows = []
    for index, arm in enumerate(result.arms):
        runs = result.of_arm(arm.name)
        score = _spread([run.test_metric for run in runs], scale.value, scale.amount)
        others = [_spread([pick(run) for run in runs], number, _short) for _, pick in filled]
        gap = _spread([run.gap for run in runs], scale.difference, scale.amount)
        lost = sum(run.status == "diverged" for run in runs)
        rows.append(Row(arm.name, index, [score, *others, gap, f"{lost} of {len(runs)}"]))
    heads = ["arm", f"test {scale.metric}", *(name for name, _ in filled), "gap", "diverged"]
    spread = "Mean ± standard deviation over the seeds" if len(result.seeds) > 1 else "One seed, so no spread"
    calibration = "; NLL in nats an example; lower is better for NLL, Brier and ECE" if "Brier" in heads else ""
    return Table("All arms", heads, rows, f"{spread}; {scale.metric}: {scale.direction}{calibration}.")


def contrasts(result: StudyResult) -> Table:
    """Tabulate the contrasts: effect, interval, the tests' p-values, verdict."""
    scale = Scale.of(result.summary)
    numbers = {arm.name: index for index, arm in enumerate(result.arms)}
    references = {item.reference for item in result.contrasts}
    several = len(references) > 1
    settle = any(item.seeds_to_settle is not None for item in result.contrasts)
    rows = []
    for item in result.contrasts:
        cells = [*([item.reference] if several else []), verdict_words(item), scale.difference(item.mean),
                 scale.interval(item.low, item.high), p_value(item.p_t), p_value(item.p_holm), p_value(item.p_sign_flip),
                 p_value(item.p_equivalence), *([_count(item.seeds_to_settle)] if settle else [])]
        rows.append(Row(item.arm, numbers.get(item.arm), cells))
    heads = ["arm", *(["against"] if several else []), "verdict", "mean difference", "95 % interval", "p", "Holm", "sign flip",
             "equivalence", *(["seeds to settle"] if settle else [])]
    title = "Contrasts" if several or not references else f"Contrasts against {min(references)}"
    return Table(title, heads, rows,
                 "Paired by seed; positive means that the arm is better. p: paired t test; Holm: corrected for the number of "
                 "contrasts; sign flip: exact, from 6 seeds on; equivalence: that the difference is smaller than the margin of "
                 f"{scale.amount(result.summary.margin)}.")


def effects(result: StudyResult) -> Table:
    """Tabulate what each change of a factorial is worth and how each two go together; no rows for another study."""
    scale = Scale.of(result.summary)
    rows = [Row(words.effect_name(item), None, [item.kind, scale.difference(item.mean), scale.interval(item.low, item.high),
                                                p_value(item.p_t), p_value(item.p_holm)]) for item in find_effects(result)]
    return Table("What each change is worth", ["change", "effect", "mean difference", "95 % interval", "p", "Holm"], rows,
                 "A change alone: with it less without it, on the average over all settings of the others. Two with ×: what "
                 "they are worth together less the sum of what each is worth alone. Paired by seed; positive is better; Holm: "
                 "corrected for the number of rows.")


def sites(result: StudyResult) -> Table:
    """Tabulate the places where dropout acts with their rate in each arm."""
    places = list(dict.fromkeys((site.name, site.kind) for arm in result.arms for site in arm.sites))
    rates = [{(site.name, site.kind): site.p for site in arm.sites} for arm in result.arms]
    rows = [Row(name or "(the model itself)", None, [kind, *(_rate(of_arm.get((name, kind))) for of_arm in rates)])
            for name, kind in places]
    return Table("Rates", ["site", "kind", *(arm.name for arm in result.arms)], rows,
                 f"Probability of dropping, at {counted(len(places), 'site')}.")


def runs(result: StudyResult) -> Table:
    """Tabulate every run."""
    scale = Scale.of(result.summary)
    rows = []
    for index, arm in enumerate(result.arms):
        for run in result.of_arm(arm.name):
            cells = [str(run.seed), run.status, scale.value(run.test_metric), number(run.test_loss),
                     scale.value(run.val_metric), number(run.val_loss), scale.value(run.train_eval_metric),
                     number(run.train_eval_loss), scale.difference(run.gap)]
            rows.append(Row(arm.name, index, cells))
    metric = scale.metric
    return Table("Every run", ["arm", "seed", "status", f"test {metric}", "test loss", f"validation {metric}",
                               "validation loss", f"training {metric}", "training loss", "gap"], rows,
                 "After the last epoch, in evaluation mode.")


def cost(result: StudyResult) -> Table:
    """Tabulate what each arm cost: seconds a run, against the reference arm's."""
    spent = {arm.name: known(result.provenance.run_seconds.get(f"{arm.name}/{seed}") for seed in result.seeds)
             for arm in result.arms}
    reference = result.contrasts[0].reference if result.contrasts else result.arms[0].name
    base = mean(spent.get(reference, []))
    rows = []
    for index, arm in enumerate(result.arms):
        middle = mean(spent[arm.name])
        if middle is not None:
            ratio = f"{middle / base:.2f}" if base else ABSENT
            rows.append(Row(arm.name, index, [duration(middle), ratio, duration(sum(spent[arm.name]))]))
    return Table("Cost", ["arm", "a run", f"times {reference}", "in all"], rows,
                 "Time of training and scoring, of runs that shared the machine with one another: good for proportions only.")


def facts(result: StudyResult) -> list[tuple[str, str]]:
    """List the study's key figures as terms and values."""
    summary = result.summary
    lost = sum(run.status == "diverged" for run in result.runs)
    scale = Scale.of(summary)
    counts = [(len(result.arms), "arm"), (len(result.seeds), "seed"), (len(result.runs), "run"),
              (summary.n_train, "training example"), (summary.n_val, "for validation"), (summary.n_test, "for testing"),
              (summary.epochs, "epoch"), (summary.n_parameters, "parameter")]
    found = [(noun if noun.startswith("for") else words.noun_of(count, noun), f"{count:,}") for count, noun in counts]
    return [*found[:3], *([("diverged", f"{lost:,}")] if lost else []), *found[3:], ("margin", scale.amount(summary.margin))]


def reproduction(result: StudyResult) -> list[tuple[str, str]]:
    """List what one needs to know to get the numbers again."""
    summary, source = result.summary, result.provenance
    spent = known(source.run_seconds.values())
    each = f"; a run {duration(min(spent))} to {duration(max(spent))}" if spent else ""
    shape = " × ".join(str(size) for size in summary.n_features)
    return [
        ("data", f"{summary.data}: {shape or 'no'} features, {counted(summary.n_outputs, 'output')}"),
        ("data hash", summary.data_hash), ("experiment hash", summary.experiment_hash),
        ("training", f"{summary.loss}; {summary.optimizer}; {counted(summary.epochs, 'epoch')} in batches of "
                     f"{summary.batch_size:,}"),
        ("seeds", ", ".join(str(seed) for seed in result.seeds)),
        ("engine", source.engine), *([("notes", " ".join(source.notes))] if source.notes else []),
        ("versions", _pairs(source.versions)), ("machine", _pairs(source.machine)), ("git", _pairs(source.git)),
        ("started", source.started), ("time", f"{duration(source.seconds)} with {counted(source.jobs, 'job')}{each}"),
    ]


def _spread(values: Sequence[float | None], write: Callable[[float | None], str],
            spread: Callable[[float | None], str]) -> str:
    middle, width = mean(values), deviation(values)
    if width is None:
        return write(middle)
    bare, space, unit = write(middle).partition(" ")
    return f"{bare} ± {spread(width).partition(' ')[0]}{space}{unit}"  # the unit stands once, after the spread


def _short(value: float | None) -> str:
    return number(value, 2)


def _rate(p: float | None) -> str:
    return ABSENT if p is None else f"{p:.4g}"


def _count(value: int | None) -> str:
    return ABSENT if value is None else f"{value:,}"


def _pairs(values: dict[str, str]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items()) or ABSENT
