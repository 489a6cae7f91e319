import dataclasses
import itertools
import re
import sys
from html.parser import HTMLParser

import pytest

from dropkit.core.errors import InputError, MissingExtraError
from dropkit.report import look, page, tables, words
from dropkit.report.page import render, write_report
from dropkit.study.recipe import Recipe
from dropkit.study.result import HELPS, HURTS, INCONCLUSIVE, LEANING, SAME, load_result

from . import factory

STUDIES = [factory.classification, factory.regression, factory.diverged, factory.single, factory.many, factory.complete,
           factory.factorial, factory.hostile]
VOID = {"meta", "br", "img", "link", "input", "hr", "wbr"}


class Page(HTMLParser):
    """What a browser would see: tags with attributes in their order, text by the tag around it, nesting checked."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.texts, self.open, self.script = [], [], [], {}
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.texts.append((self.open[-1], data))

    def all(self, tag, **attributes):
        return [found for name, found in self.tags if name == tag
                and all(found.get(key) == value for key, value in attributes.items())]

    @property
    def text(self):
        return " ".join(" ".join(data for _, data in self.texts).split())


@pytest.fixture(scope="module")
def pages():
    return {study: render(study()) for study in STUDIES}


def without_plotly(html):
    start = html.index("/**\n* plotly.js")
    return html[:start] + html[html.index("</script>", start):]


@pytest.mark.parametrize("study", STUDIES)
def test_page_is_well_formed_and_labelled(pages, study):
    found = Page(without_plotly(pages[study]))
    assert found.open == []
    ids = [attrs["id"] for _, attrs in found.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    for _, attrs in found.tags:
        if "aria-labelledby" in attrs:
            assert attrs["aria-labelledby"] in ids
        if attrs.get("href", "").startswith("#"):
            assert attrs["href"][1:] in ids
    headings = [int(tag[1]) for tag, _ in found.tags if re.fullmatch("h[1-6]", tag)]
    assert headings.count(1) == 1
    assert headings[0] == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(headings))
    assert len(found.all("figure")) == len(found.all("figcaption")) > 0
    plots = found.all("div", role="img")
    assert plots
    assert all(re.search(r"\d", plot["aria-label"]) for plot in plots)


@pytest.mark.parametrize("study", STUDIES)
def test_page_loads_nothing(pages, study):
    html = pages[study]
    assert len(html.encode()) < 10_000_000
    rest = without_plotly(html)
    found = Page(rest)
    assert not found.all("link")
    assert not found.all("img")
    assert all("src" not in attrs for _, attrs in found.tags)
    assert all(attrs["href"].startswith("#") for _, attrs in found.tags if "href" in attrs)
    assert not re.search(r"@import|url\(|https?://(?!www\.w3\.org)", rest)
    policy = found.all("meta", **{"http-equiv": "Content-Security-Policy"})[0]["content"]
    assert "default-src 'none'" in policy
    assert "http" not in policy
    assert html.count("* plotly.js v") == 1


@pytest.mark.parametrize("study", STUDIES)
def test_the_same_result_gives_the_same_bytes(pages, study):
    assert render(study()) == pages[study]


def test_sections_come_in_order(pages):
    found = Page(without_plotly(pages[factory.classification]))
    assert [attrs["id"] for attrs in found.all("section")] == [
        "scores", "learning", "gap", "rates", "calibration", "tables", "cautions", "arms", "reproduction"]
    assert [attrs["id"] for attrs in found.all("figure")] == [
        "paired", "forest", "val-loss", "val-metric", "learning-loss", "learning-metric", "gap-by-arm", "rate-curve",
        "reliability"]
    assert len(found.all("div", role="img")) == 4 + 6 + 1 + 1 + 3


def test_verdict_stands_first_with_effect_interval_and_setting(pages):
    result = factory.classification()
    text = Page(without_plotly(pages[factory.classification])).text.partition("Skip to the report")[2]
    order = ["▲ helps", result.verdict.sentence, "+0.87 pp", "95 % interval +0.67 to +1.06 pp", "Next step",
             result.verdict.next_step, "Setting to paste", result.verdict.setting, "Scores"]
    places = [text.index(part) for part in order]
    assert places == sorted(places)


@pytest.mark.parametrize("kind", [HELPS, HURTS, SAME, INCONCLUSIVE, LEANING])
def test_every_kind_of_verdict_has_its_own_badge(kind):
    result = factory.single()
    html = render(dataclasses.replace(result, verdict=dataclasses.replace(result.verdict, kind=kind)))
    name, sign = page.BADGES[kind]
    assert f'class="verdict {name}"' in html
    assert f'<span aria-hidden="true">{sign}</span> {kind}</span>' in html
    assert f".{name} {{ --kind: #" in html
    assert len({sign for _, sign in page.BADGES.values()}) == 5


def test_headline_is_the_intended_arm_when_the_reference_is_advised():
    result = factory.classification()
    advised = dataclasses.replace(result, verdict=dataclasses.replace(result.verdict, kind="inconclusive", arm="none"))
    assert words.headline(advised).arm == "intended"
    assert words.headline(result).arm == result.verdict.arm
    assert words.headline(dataclasses.replace(result, contrasts=[])) is None


def test_regression_has_no_calibration(pages):
    found = Page(without_plotly(pages[factory.regression]))
    assert "calibration" not in [attrs["id"] for attrs in found.all("section")]
    assert not re.search(r"Brier|ECE|Reliability|\bpp\b|%", found.text.replace("95 %", ""))


def test_diverged_runs_are_told(pages):
    text = Page(without_plotly(pages[factory.diverged])).text
    assert "8 runs diverged and count with the score of the best constant prediction." in text
    rows = {row.name: row.cells for row in tables.arms(factory.diverged()).rows}
    assert rows["too much"] == ["10.00 ± 0.00 %", "–", "–", "–", "–", "6 of 6"]
    assert rows["intended"][-1] == "2 of 6"


def test_one_seed_has_no_interval_and_no_spread(pages):
    text = Page(without_plotly(pages[factory.single])).text
    assert "so few seeds give no interval" in text
    assert "±" not in text.replace("margin ±", "")
    row = tables.contrasts(factory.single()).rows[0]
    assert row.cells == ["leaning: helps", "+0.83 pp", "–", "–", "–", "–", "–"]


def test_tables_hold_the_numbers():
    result = factory.classification()
    row = tables.contrasts(result).rows[1]
    assert row.name == "intended"
    assert row.cells[:3] == ["helps", "+0.87 pp", "+0.67 to +1.06 pp"]
    assert tables.contrasts(result).title == "Contrasts against none"
    assert [cell for row in tables.sites(result).rows for cell in row.cells] == ["Dropout", "0", "0.25", "0.5"] * 2
    assert len(tables.runs(result).rows) == 24
    assert ("margin", "0.50 pp") in tables.facts(result)


def test_contrasts_with_several_references_name_them():
    result = factory.classification()
    other = factory.contrast("intended", "reduced", result.runs, result.summary)
    table = tables.contrasts(dataclasses.replace(result, contrasts=[*result.contrasts, other]))
    assert table.columns[1] == "against"
    assert table.rows[2].cells[0] == "reduced"


def test_sites_that_arms_do_not_share_are_left_open():
    result = factory.classification()
    bare = [dataclasses.replace(result.arms[0], sites=[]), *result.arms[1:]]
    assert tables.sites(dataclasses.replace(result, arms=bare)).rows[0].cells == ["Dropout", "–", "0.25", "0.5"]


def test_a_factorial_tells_what_each_change_is_worth(pages):
    result = factory.factorial()
    found = Page(without_plotly(pages[factory.factorial]))
    assert "What each change is worth" in found.text
    assert [attrs["id"] for attrs in found.all("figure")][:3] == ["paired", "forest", "effects"]
    rows = tables.effects(result).rows
    assert [row.name for row in rows] == [
        "intended", "weight_decay=0.001", "batch_norm", "intended × weight_decay=0.001", "intended × batch_norm",
        "weight_decay=0.001 × batch_norm"]
    worth = result.effects().loc["batch_norm"]
    assert rows[2].cells[:2] == [worth.verdict, f"{100 * worth.difference:+.2f} pp".replace("-", "−")]
    alt = next(plot["aria-label"] for plot in found.all("div", role="img") if plot["id"] == "plot-effects")
    assert "intended and weight_decay=0.001 together: " in alt
    assert tables.effects(factory.classification()).rows == []


def test_a_result_that_lacks_runs_is_refused(tmp_path):
    result = factory.classification()
    dataclasses.replace(result, runs=result.runs[:-1]).save(tmp_path / "result.json")
    with pytest.raises(InputError, match="no run of intended, seed 7"):
        load_result(tmp_path)


def test_user_text_is_escaped_everywhere(pages):
    html = without_plotly(pages[factory.hostile])
    found = Page(html)
    assert len(found.all("script")) == 3
    assert not found.all("img")
    assert not any("onerror" in attrs for _, attrs in found.tags)
    assert found.text.count('</script><script>window.hacked = 1</script><img src=x onerror="window.hacked=1">') > 20
    assert "{{ 7*7 }}" in found.text
    drawings = html[html.index('id="drawings">'):]
    drawings = drawings[:drawings.index("</script>")]
    assert "<" not in drawings.partition(">")[2]


def test_history_may_be_missing():
    result = factory.single()
    bare = dataclasses.replace(result, runs=[dataclasses.replace(run, history={}, gap=None) for run in result.runs])
    found = Page(without_plotly(render(bare)))
    assert [attrs["id"] for attrs in found.all("figure")] == ["paired", "forest", "reliability"]


def test_many_arms_stay_small_and_say_so():
    result = factory.classification(arms=[f"arm {index}" for index in range(20)], seeds=2, epochs=2)
    html = render(result)
    found = Page(without_plotly(html))
    assert len([plot for plot in found.all("div", role="img") if plot["id"].startswith("plot-learning-loss")]) == 12
    assert "12 of 20 arms are drawn; the tables hold all." in found.text


@pytest.mark.slow
def test_a_large_study_stays_under_ten_megabytes():
    result = factory.classification(arms=[f"arm {index}" for index in range(10)], seeds=30, epochs=400)
    assert len(render(result).encode()) < 10_000_000


def test_cautions_may_be_absent():
    found = Page(without_plotly(render(dataclasses.replace(factory.single(), cautions=[]))))
    assert "cautions" not in [attrs.get("id") for _, attrs in found.tags]


def test_report_is_written_to_a_file_or_into_a_folder(tmp_path):
    result = factory.single()
    assert write_report(result, tmp_path) == tmp_path / "report.html"
    named = write_report(result, str(tmp_path / "new" / "page.html"))
    assert named == tmp_path / "new" / "page.html"
    assert named.read_bytes() == (tmp_path / "report.html").read_bytes()


def test_report_of_a_saved_result_is_the_same(tmp_path):
    result = factory.diverged()
    result.save(tmp_path / "result.json")
    assert render(load_result(tmp_path)) == render(result)


def test_text_that_is_no_unicode_is_written_all_the_same(tmp_path):
    result = factory.single()
    odd = dataclasses.replace(result, provenance=dataclasses.replace(result.provenance, command="study caf\udce9"))
    assert "study caf?" in write_report(odd, tmp_path).read_text(encoding="utf-8")


@pytest.mark.parametrize("package", ["plotly", "jinja2"])
def test_a_missing_package_is_named_with_its_extra(monkeypatch, package):
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=rf"'{package}'.*dropkit\[report\]"):
        render(factory.single())


def test_text_is_legible_on_both_backgrounds():
    css = (page.TEMPLATES / "style.css").read_text(encoding="utf-8")
    blocks = re.findall(r":root \{(.*?)\}", css, re.S)
    light, dark = (dict(re.findall(r"--([a-z]+): (#[0-9a-f]{6})", block)) for block in blocks)
    for theme in (light, dark):
        for text in ("ink", "soft", "link"):
            assert min(contrast(theme[text], theme[back]) for back in ("paper", "panel")) >= 4.5
        assert contrast(look.COLOURS[0], theme["panel"]) >= 3
        assert contrast(look.COLOURS[1], theme["panel"]) >= 3
        assert contrast(look.COLOURS[2], theme["panel"]) >= 3
    for kind in re.findall(r"--kind: (#[0-9a-f]{6})", css):
        assert contrast("#ffffff", kind) >= 4.5


def contrast(one, other):
    """Compute the contrast ratio of two colours as WCAG 2 defines it."""
    def luminance(colour):
        parts = [value / 255 for value in bytes.fromhex(colour[1:])]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


def test_the_caption_of_the_curves_tells_of_inputs_changed_at_random():
    result = factory.classification()
    arms = [*result.arms[:-1], dataclasses.replace(result.arms[-1], recipe=Recipe(shift=2))]
    assert words.curves_caption(result, one_arm=True).startswith("From dotted to dashed is dropout's noise, from")
    assert words.curves_caption(dataclasses.replace(result, arms=arms), one_arm=True).startswith(
        "From dotted to dashed is the noise of dropout and of inputs changed at random, from")
