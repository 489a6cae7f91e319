"""The report in a real browser: drawn, in place, silent, and without a network."""

import shutil

import pytest

from dropkit.report.compare import write_comparison
from dropkit.report.page import write_report

from . import factory

pytestmark = pytest.mark.browser
ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
             "--disable-background-networking", "--disable-component-update", "--disable-sync"]
STUDIES = ["classification", "regression", "diverged", "single", "four", "many", "complete", "factorial", "hostile"]
SCREENS = [("classification", 390, "light"), ("classification", 1600, "dark"),
           *((study, 390, "dark") for study in STUDIES), *((study, 1600, "light") for study in STUDIES),
           ("comparison", 390, "dark"), ("comparison", 1600, "light")]

DRAWN = """() => [...document.querySelectorAll('.plot')].map((plot) => {
  const box = plot.querySelector('.main-svg').getBoundingClientRect();
  const marks = [...plot.querySelectorAll('.trace path, .trace .point, .bars path')].filter((mark) => {
    const size = mark.getBoundingClientRect();
    return size.width + size.height > 0;
  });
  const frame = plot.closest('figure').getBoundingClientRect();
  return {id: plot.id, width: box.width, height: box.height, marks: marks.length,
          inside: box.left >= frame.left && box.right <= frame.right + 0.5};
})"""

# texts that leave their figure, and labels of one axis that touch each other
MISPLACED = """() => [...document.querySelectorAll('.plot')].flatMap((plot) => {
  const box = plot.getBoundingClientRect();
  const texts = [...plot.querySelectorAll('.main-svg text')].filter((text) => text.textContent.trim());
  const out = texts.filter((text) => {
    const size = text.getBoundingClientRect();
    return size.left < box.left - 1 || size.right > box.right + 1 || size.top < box.top - 1 || size.bottom > box.bottom + 1;
  });
  const ticks = [...plot.querySelectorAll('.xaxislayer-above .xtick text')].map((text) => text.getBoundingClientRect());
  const touching = ticks.filter((one, index) => index > 0 && one.left < ticks[index - 1].right
                                                 && one.top < ticks[index - 1].bottom && one.bottom > ticks[index - 1].top);
  return [...out.map((text) => plot.id + ' clips ' + text.textContent),
          ...touching.map(() => plot.id + ' has touching labels')];
})"""


@pytest.fixture(scope="module")
def browser():
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.fail("no Chromium on PATH: run `bash scripts/browser.sh`, which installs it, and try again")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reports")
    reports = {name: write_report(getattr(factory, name)(), folder / f"{name}.html") for name in STUDIES}
    return {**reports, "comparison": write_comparison(factory.complete(), factory.classification(), folder / "two.html")}


@pytest.fixture
def opened(browser):
    """Open a report; at the end, nothing may have been complained about and nothing asked of the network."""
    faults, asked, contexts = [], [], []

    def show(file, width, scheme):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: faults.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(file.as_uri())
        page.wait_for_selector("html[data-drawn]", timeout=60_000)
        asked[:] = [url for url in asked if url != file.as_uri()]
        return page

    yield show
    for context in contexts:
        context.close()
    assert faults == []
    assert asked == []


def until(page, expression):
    """Wait for an expression to hold; Playwright's own waiting evaluates strings, which the page's policy forbids."""
    for _ in range(100):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(50)
    pytest.fail(f"never came true: {expression}")


@pytest.mark.parametrize(("study", "width", "scheme"), SCREENS)
def test_every_figure_is_drawn_inside_the_page(opened, files, study, width, scheme):
    page = opened(files[study], width, scheme)
    drawn = page.evaluate(DRAWN)
    assert drawn
    for plot in drawn:
        assert plot["marks"] > 0, plot
        assert plot["width"] >= 200, plot
        assert plot["height"] >= 100, plot
        assert plot["inside"], plot
    assert page.evaluate(MISPLACED) == []
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert page.evaluate("window.hacked === undefined")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == {
        "light": "rgb(247, 247, 245)", "dark": "rgb(18, 21, 24)"}[scheme]


def test_figures_follow_the_colour_scheme(opened, files):
    page = opened(files["classification"], 1000, "light")
    colour = "getComputedStyle(document.querySelector('.xtick text')).fill"
    assert page.evaluate(colour) == "rgb(28, 33, 39)"
    page.emulate_media(color_scheme="dark")
    until(page, f"{colour} === 'rgb(230, 233, 236)'")


def test_figures_follow_the_width(opened, files):
    page = opened(files["classification"], 1600, "light")
    page.set_viewport_size({"width": 390, "height": 900})
    until(page, "document.querySelector('#plot-gap .main-svg').getBoundingClientRect().width < 360")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_an_arm_is_hidden_and_shown_from_the_keyboard(opened, files):
    page = opened(files["classification"], 1600, "light")
    button = page.locator("#val-loss button[data-arm='1']")
    lines = "document.querySelectorAll('#plot-val-loss .scatterlayer .trace').length"
    before = page.evaluate(lines)
    button.focus()
    page.keyboard.press("Enter")
    until(page, f"{lines} < {before}")
    assert button.get_attribute("aria-pressed") == "false"
    page.keyboard.press("Enter")
    until(page, f"{lines} === {before}")
    assert button.get_attribute("aria-pressed") == "true"


def test_the_keyboard_reaches_the_report_and_never_a_picture(opened, files):
    page = opened(files["classification"], 1600, "light")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    assert page.evaluate("[...document.querySelectorAll('.plot *')].filter((part) => part.tabIndex >= 0).length") == 0


def test_setting_is_copied(opened, files):
    page = opened(files["classification"], 1600, "light")
    button = page.locator("button[data-copy='setting']")
    button.click()
    until(page, "/^(Copied|Selected)/.test(document.querySelector('button[data-copy=setting]').textContent)")


def test_no_button_of_plotly_leads_away(opened, files):
    page = opened(files["classification"], 1600, "light")
    names = page.evaluate("[...document.querySelectorAll('.modebar-btn')].map((button) => button.dataset.title)")
    assert set(names) == {"Download plot as a PNG", "Zoom", "Pan", "Zoom in", "Zoom out", "Reset axes"}
    assert page.evaluate("document.querySelectorAll('.plot a[href]').length") == 0


def test_printing_unfolds_and_puts_back(opened, files):
    page = opened(files["classification"], 1600, "dark")
    assert page.pdf(format="A4").startswith(b"%PDF")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate("document.querySelectorAll('details:not([open])').length") == 0
    assert page.evaluate("document.querySelector('#plot-gap .main-svg').getBoundingClientRect().width") < 680
    assert page.evaluate("getComputedStyle(document.querySelector('.xtick text')).fill") == "rgb(17, 17, 17)"
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.evaluate("document.querySelectorAll('details[open]').length") == 0
    until(page, "document.querySelector('#plot-gap .main-svg').getBoundingClientRect().width > 900")
