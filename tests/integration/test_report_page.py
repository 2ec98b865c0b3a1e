"""The page of a report in a real browser: what it shows, that it is quiet, and that text in it stays text."""

import json
import os
import shutil
import tempfile
import time
from collections import Counter

import pytest

from made import TESTS, listed, made_calibration, made_dial, made_run
from rait.pipeline import run as run_recipe
from rait.recipe import load_recipe
from rait.records import Decision, KnowledgeState, Outcome, Question, Verdict
from rait.reporting.report import write_report
from rait.tables import read_records, write_json

pytestmark = pytest.mark.slow  # a browser

SWITCHES = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1200,900",
)
HOSTILE = [
    "<script>alert(1)</script>",
    "</script><script>alert(2)</script>",
    "<img src=x onerror=alert(3)>",
    "\"quotes\" 'and' `more` &amp; &lt;b&gt; {{ 7 * 7 }} ${7 * 7} {% raw %}",
    "\u202eright to left\u202c and עברית",
    "null \x00 and bell \x07 and line\u2028separator",
    "<!--<script>" + "x" * 10_000,
    "\\u003c/script\\u003e -->",
    "datum.x]; alert(4); //",
]
TEXTS = "return [...document.querySelectorAll(arguments[0])].map((each) => each.textContent)"
COUNT = "return document.querySelectorAll(arguments[0]).length"


@pytest.fixture(scope="module")
def browser():
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not program or not driver:
        if os.environ.get("CI_BROWSER") == "1":
            pytest.fail("chromium and chromedriver must be there where CI_BROWSER=1")
        pytest.skip("no chromium: the page is not tried in a browser")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    with tempfile.TemporaryDirectory() as profile:
        for switch in (*SWITCHES, f"--user-data-dir={profile}"):
            options.add_argument(switch)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        found = webdriver.Chrome(options=options, service=Service(driver))
        yield found
        found.quit()


@pytest.fixture
def show(browser):
    """Open a page, wait until it stands, and see to it that it was quiet: no message, no alert, nothing fetched."""

    def shown(path):
        browser.get_log("browser")
        browser.get(path.resolve().as_uri())
        deadline = time.monotonic() + 60
        while browser.execute_script("return document.documentElement.dataset.ready") != "yes":
            assert time.monotonic() < deadline, "the page does not get ready"
            time.sleep(0.05)
        return browser

    yield shown
    quiet(browser)
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})
    browser.execute_script("localStorage.clear()")


def quiet(browser):
    assert [entry["message"] for entry in browser.get_log("browser")] == []
    assert browser.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)") == []


def settle(browser, **chosen):
    """Set filters, and return how many questions are found."""
    browser.execute_async_script(
        """
        const [chosen, done] = arguments;
        const form = document.getElementById("filters");
        form.reset();
        setTimeout(() => {
          for (const [name, value] of Object.entries(chosen)) form.elements[name].value = value;
          form.dispatchEvent(new Event("change"));
          done();
        }, 20);
        """,
        chosen,
    )
    return int(browser.find_element("id", "found").text.split(" of ")[0].replace(",", ""))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = made_run(tmp_path_factory.mktemp("made") / "run", train=120, tests=50)
    made_dial(folder / "craft")
    listed(folder)
    write_report([folder], folder / "report.html")
    return folder


@pytest.fixture(scope="module")
def dialled(tmp_path_factory):
    folder = made_calibration(made_run(tmp_path_factory.mktemp("dialled") / "run", train=40), ["craft"])
    write_report([folder], folder / "report.html")
    return folder


@pytest.fixture(scope="module")
def real(recipe_file, tmp_path_factory):
    """A run of a tiny model, which has written its report itself."""
    folder = tmp_path_factory.mktemp("real") / "run"
    run_recipe(load_recipe(recipe_file), folder, say=lambda _: None)
    return folder


def test_a_real_run_shows_the_numbers_of_its_metrics(show, real):
    page = show(real / "report.html")
    for at, test in enumerate(TESTS):
        rows = page.execute_script(
            """
            const tables = document.querySelectorAll("#out .set")[arguments[0]].querySelectorAll(".numbers");
            const cells = (row) => [...row.querySelectorAll("td")].map((cell) => [cell.dataset.metric, cell.innerText]);
            return [...tables[0].querySelectorAll("tbody tr")].map(
              (row) => [row.querySelector("th").textContent, Object.fromEntries(cells(row))]);
            """,
            at,
        )
        assert [name for name, _ in rows] == ["init_basic", "init_refuse", "cor_rait", "craft"]
        for name, cells in rows:
            metrics = json.loads((real / name / "metrics.json").read_text())[test]["overall"]
            for metric, text in cells.items():
                value, low, high, n = (metrics[metric][key] for key in ("value", "low", "high", "n"))
                number, *rest = text.split("\n")
                assert number == ("n/a" if value is None else f"{round(100 * value, 1) + 0:.1f}")
                assert rest[-1] == f"of {n}"
                if low is not None:
                    assert rest[0] == f"[{round(100 * low, 1) + 0:.1f}, {round(100 * high, 1) + 0:.1f}]"
    paths = "return [...document.querySelectorAll('.plot')].map((each) => each.querySelectorAll('svg path').length)"
    drawn = page.execute_script(paths)
    assert len(drawn) >= 8
    assert all(count > 2 for count in drawn)
    questions = len(read_records(real / "questions/train.parquet", Question))
    assert settle(page, set="train") == questions


@pytest.mark.parametrize("method", ["craft"])
def test_filters_filter(show, made, method):
    page = show(made / "report.html")
    before = {v.id: v.outcome for t in TESTS for v in read_records(made / f"init_basic/{t}.verdicts.parquet", Verdict)}
    after = {v.id: v.outcome for t in TESTS for v in read_records(made / f"{method}/{t}.verdicts.parquet", Verdict)}
    judged = (Outcome.CORRECT, Outcome.WRONG, Outcome.REFUSED)
    for first in judged:
        for second in judged:
            expected = sum(before[id] is first and after[id] is second for id in before)
            assert settle(page, method=method, before=first, after=second) == expected
    roles = Counter(d.role for d in read_records(made / f"{method}/decisions.parquet", Decision))
    for role, count in roles.items():
        assert settle(page, method=method, role=role) == count
    names = {"train": "initial", "id": "tests/id", "ood": "tests/ood"}
    for name, file in names.items():
        mus = [state.correctness for state in read_records(made / f"knowledge/{file}.parquet", KnowledgeState)]
        for band in range(5):
            expected = sum(min(4, round(10 * mu) // 2) == band for mu in mus)
            assert settle(page, set=name, band=str(band)) == expected
    asked = read_records(made / "questions/train.parquet", Question)
    word = asked[7].answers[0]
    assert settle(page, search=word.upper()) == 1
    assert settle(page, search="id:id/3") == 1
    assert settle(page, search="no such text at all") == 0
    assert settle(page, method=method) == 120 + 2 * 50
    lines = page.find_element("id", "found").text.splitlines()[1:]
    assert [line.split()[0] for line in lines] == list(TESTS)
    for line in lines:
        counts = Counter(outcome for id, outcome in after.items() if id.startswith(line.split()[0]))
        assert line.endswith(
            f"; {method}: {counts['correct']} right, {counts['refused']} refused, {counts['wrong']} wrong"
        )


def test_what_is_too_narrow_is_told_and_can_be_taken_away(show, made):
    page = show(made / "report.html")
    none = page.find_element("id", "none")
    assert settle(page, set="id") == 50
    assert not none.is_displayed()
    taken = [d.id for d in read_records(made / "craft/decisions.parquet", Decision) if d.role == "idk"]
    assert settle(page, method="craft", set="id", role="idk") == 0
    buttons = none.find_elements("css selector", "button")
    assert [button.text for button in buttons] == [
        f"without set “id”: {len(taken)}",
        "without role “idk”: 50",
        "Show all",
    ]
    buttons[0].click()
    assert page.find_element("id", "found").text.startswith(f"{len(taken)} of ")
    assert not none.is_displayed()
    assert settle(page, set="id", role="idk", search="no such text at all") == 0
    (button,) = none.find_elements("css selector", "button")
    assert "not enough" in none.text
    button.click()
    page.execute_async_script("setTimeout(arguments[0], 50)")
    assert page.find_element("id", "found").text.startswith("220 of 220")


def test_the_dial_is_told_beside_the_greedy_answer(show, dialled):
    page = show(dialled / "report.html")
    for name in (*TESTS, "calibration"):
        verdicts = read_records(dialled / f"craft/{name}.verdicts.parquet", Verdict)
        refused = {v.id for v in verdicts if v.refusal_probability >= 0.4 or v.answer_correct is None}
        assert settle(page, set=name, method="craft/dial", after="refused") == len(refused)
        right = sum(v.id not in refused and v.answer_correct is True for v in verdicts)
        assert settle(page, set=name, method="craft/dial", after="correct") == right
    chances = sorted((v.refusal_probability, v.question) for v in verdicts)
    settle(page, set="calibration", method="craft", order="-p_refuse")
    shown = page.execute_script(TEXTS, "#list .open .text")
    assert shown == [question for _, question in chances[::-1]]
    kinds = {
        "answers": lambda v: v.refusal_probability < 0.4 and v.outcome is Outcome.REFUSED and v.answer_correct,
        "refuses": lambda v: v.refusal_probability >= 0.4 and v.outcome is Outcome.CORRECT,
        "anyway": lambda v: v.refusal_probability < 0.4 and v.answer_correct is None,
    }
    for kind, is_so in kinds.items():
        verdict = next(v for name in (*TESTS, "calibration") for v in read_verdicts(dialled, name) if is_so(v))
        assert settle(page, search=f"id:{verdict.id}", method="craft") == 1
        page.find_element("css selector", "#list .open").click()
        lines = page.execute_script(TEXTS, "#list .detail li")
        (line,) = [line for line in lines if "craft with the dial" in line]
        assert f"p(refuse) {float(f'{verdict.refusal_probability:.4g}'):g}; refuses from 0.4 on" in line
        assert any(line.endswith(f"craft{verdict.response}") for line in lines), "the greedy answer"
        assert ("refused" in line) is (kind != "answers")
        assert (verdict.answer in line) is (kind == "answers")
        assert ("even where it may not" in line) is (kind == "anyway")


def read_verdicts(folder, name):
    return read_records(folder / f"craft/{name}.verdicts.parquet", Verdict)


def test_a_bar_names_questions_that_it_stands_for(show, dialled):
    from selenium.webdriver.common.action_chains import ActionChains

    page = show(dialled / "report.html")
    states = {s.question: s.correctness for s in read_records(dialled / "knowledge/initial.parquet", KnowledgeState)}
    chances = {v.question: v.refusal_probability for v in read_verdicts(dialled, "id")}
    for chart, values in (("states-0", states), ("chances-0-0-0", chances)):
        plot = page.find_element("css selector", f".plot[data-chart='{chart}']")
        page.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", plot)
        ActionChains(page).move_to_element(plot.find_elements("css selector", ".mark-rect path")[0]).perform()
        count, where = (line.split(" ", 1)[1] for line in page.find_element("id", "tip").text.splitlines()[:2])
        named = page.execute_script(TEXTS, "#tip .text")
        assert len(named) == min(int(count), 3)
        low, high = (float(where), float(where)) if chart == "states-0" else map(float, where.split(" to "))
        assert all(low <= values[question] <= high for question in named)


def test_the_pairs_of_every_strategy_are_there(show, dialled):
    page = show(dialled / "report.html")
    asked = {q.id: q.question for q in read_records(dialled / "questions/train.parquet", Question)}
    for name in ("cor_rait", "craft"):
        pairs = json.loads((dialled / name / "conflicts.json").read_text())["pairs"]
        lines = page.execute_script(TEXTS, f".pairs[data-strategy='{name}'] li")
        assert 0 < len(lines) == min(len(pairs), 6)
        for line, pair in zip(lines, pairs, strict=False):
            assert asked[pair["idk"]] in line.split(" refused · ")[0]
            assert asked[pair["vanilla"]] in line.split(" refused · ")[1]


def test_questions_are_in_pages_and_in_the_order_asked_for(show, made):
    page = show(made / "report.html")
    states = read_records(made / "knowledge/initial.parquet", KnowledgeState)
    settle(page, set="train", order="-sigma")
    first = page.execute_script(TEXTS, "#list .open .text")
    expected = [s.question for s in sorted(states, key=lambda s: -round(s.certainty, 4))]
    assert first == expected[:40]
    page.find_element("css selector", "#pages button[data-step='1']").click()
    second = page.execute_script("return document.querySelector('#list .open .text').textContent")
    assert second == expected[40]
    assert page.find_element("css selector", "#pages span").text == "2 of 3"


def test_a_question_opens_to_all_that_is_known_of_it(show, made):
    page = show(made / "report.html")
    state = read_records(made / "knowledge/initial.parquet", KnowledgeState)[5]
    (decision,) = [d for d in read_records(made / "craft/decisions.parquet", Decision) if d.id == state.id]
    settle(page, search=f"id:{state.id}")
    button = page.find_element("css selector", "#list .open")
    assert button.get_attribute("aria-expanded") == "false"
    button.send_keys("\ue007")  # Enter
    assert button.get_attribute("aria-expanded") == "true"
    text = page.find_element("css selector", "#list .detail").text
    for part in (state.question, state.answers[0], f"{state.correctness:g}", decision.role, decision.reason, state.id):
        assert part in text
    for answer in state.responses:
        assert answer.text in text
    button.click()
    assert not page.find_element("css selector", "#list .detail").is_displayed()


def test_a_point_tells_its_question_and_opens_it(show, made):
    from selenium.webdriver.common.action_chains import ActionChains

    page = show(made / "report.html")
    plot = page.find_element("css selector", ".plot[data-chart='flow-0']")
    page.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", plot)
    points = plot.find_elements("css selector", ".mark-symbol path")
    asked = {question.question: question.id for question in read_records(made / "questions/train.parquet", Question)}
    ActionChains(page).move_to_element(points[-30]).perform()
    shown = page.find_element("css selector", "#tip b").text
    assert shown in asked
    ActionChains(page).click().perform()
    page.execute_async_script("setTimeout(arguments[0], 100)")
    assert (
        page.execute_script("return document.getElementById('filters').elements.search.value") == f"id:{asked[shown]}"
    )
    assert shown in page.find_element("css selector", "#list .detail").text


def test_the_map_is_that_of_the_strategy_chosen(show, made):
    page = show(made / "report.html")
    count = "return document.querySelectorAll('.plot[data-chart=\"map-0\"] .mark-symbol path').length"
    choose = """
        const [name, done] = arguments, select = document.querySelector("[data-map]");
        select.value = name;
        select.dispatchEvent(new Event("change"));
        setTimeout(done, 200);
    """
    for name in ("craft", "cor_rait"):
        page.execute_async_script(choose, name)
        taken = json.loads((made / name / "conflicts.json").read_text())["map"]["id"]
        assert page.execute_script(count) == len(taken)


def test_on_a_phone_no_number_is_out_of_sight(browser, show, dialled):
    metrics = {"width": 360, "height": 700, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    page = show(dialled / "report.html")
    out_of_sight = """
        return [...document.querySelectorAll(".numbers td, .numbers th[scope=row], .row .name")]
          .filter((each) => each.checkVisibility() && (each.getBoundingClientRect().right > innerWidth
            || each.scrollWidth > each.clientWidth + 1)).map((each) => each.outerHTML.slice(0, 90));
    """
    assert page.execute_script(out_of_sight) == []
    headings = "return [...document.querySelectorAll('.numbers td')].filter((each) => !each.dataset.heading).length"
    assert page.execute_script(headings) == 0


def test_hostile_texts_are_shown_as_they_are(show, tmp_path):
    folder = made_calibration(made_run(tmp_path / "<i>run", texts=HOSTILE), ["craft"])
    page = show(write_report([folder], tmp_path / "report.html"))
    for place, text in enumerate(HOSTILE):
        assert settle(page, search=f"id:train/{place}") == 1
        page.find_element("css selector", "#list .open").click()
        shown = page.execute_script(TEXTS, "#list .open .text, #list .detail .text")
        assert shown[:3] == [text] * 3  # in the list, in the whole, as the accepted answer
        states = read_records(folder / "knowledge/initial.parquet", KnowledgeState)
        assert {answer.text for answer in states[place].responses} <= set(shown)
    assert page.execute_script(COUNT, "#questions script, #questions img, h1 i") == 0
    assert page.execute_script("return document.querySelector('h1').textContent") == "<i>run"
    assert page.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    from selenium.common.exceptions import NoAlertPresentException

    with pytest.raises(NoAlertPresentException):
        page.switch_to.alert


@pytest.mark.parametrize("width", [320, pytest.param(400, marks=pytest.mark.slow)])
def test_a_phone_scrolls_up_and_down_alone(browser, show, made, width):
    metrics = {"width": width, "height": 700, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    page = show(made / "report.html")
    page.find_element("css selector", "#list .open").click()
    page.execute_script("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    assert page.execute_script("return document.documentElement.scrollWidth") == width
    assert page.execute_script("return visualViewport.width") == pytest.approx(width, abs=1)
    wide = page.execute_script(
        """
        return [...document.querySelectorAll("main *")].filter((each) => !each.closest(".wide, pre, svg")
          && each.getBoundingClientRect().right > innerWidth + 1).map((each) => each.outerHTML.slice(0, 80));
        """
    )
    assert wide == []


def test_dark_and_light(browser, show, made):
    paper = "return getComputedStyle(document.body).backgroundColor"
    label = "return getComputedStyle(document.querySelector('.plot svg text')).fill"
    page = show(made / "report.html")
    light, ink = page.execute_script(paper), page.execute_script(label)
    feature = {"name": "prefers-color-scheme", "value": "dark"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    dark = page.execute_script(paper)
    assert dark != light
    assert page.execute_script(label) != ink, "charts follow"
    button = page.find_element("id", "theme")
    assert button.text == "Light"
    button.click()
    assert page.execute_script(paper) == light
    page = show(made / "report.html")
    assert page.execute_script(paper) == light, "the button remembers"
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": [feature]})
    assert page.execute_script(paper) == light, "print is light"


def test_print_has_no_controls_and_all_charts(browser, show, made):
    page = show(made / "report.html")
    page.execute_script("dispatchEvent(new Event('beforeprint'))")
    assert page.execute_script("return [...document.querySelectorAll('details')].every((each) => each.open)")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    seen = "return [...document.querySelectorAll(arguments[0])].filter((each) => each.checkVisibility()).length"
    assert page.execute_script(seen, "button, input, select, #questions") == 0
    assert page.execute_script(seen, ".plot svg") == page.execute_script(COUNT, ".plot")


def test_the_keyboard_reaches_every_control(show, made):
    from selenium.webdriver.common.keys import Keys

    page = show(made / "report.html")
    page.execute_script("document.body.tabIndex = -1; document.body.focus()")
    reached, ringed = [], []
    for _ in range(60):
        page.switch_to.active_element.send_keys(Keys.TAB)
        name, outline = page.execute_script(
            "const at = document.activeElement; return [at.id || at.name || at.className || at.tagName, "
            "getComputedStyle(at).outlineStyle]"
        )
        reached.append(name)
        ringed.append(outline != "none")
        if name == "open":
            break
    assert {"theme", "search", "set", "method", "before", "after", "role", "band", "order", "open"} <= set(reached)
    assert all(ringed)
    unnamed = page.execute_script(
        """
        return [...document.querySelectorAll("input, select, button")].filter((each) => each.checkVisibility()
          && !each.textContent.trim() && !each.labels?.length && !each.ariaLabel).length;
        """
    )
    assert unnamed == 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["begun", "half", "choice", "many", "two"])
def test_every_kind_of_run_has_a_quiet_page(show, tmp_path, kind):
    strategies = ("cor_rait", "craft")
    if kind == "many":
        strategies = tuple(f"strategy_of_a_long_name_{n}" for n in range(15))
    folders = [made_run(tmp_path / "run", train=30, strategies=strategies, choice=kind == "choice")]
    if kind == "begun":
        shutil.rmtree(folders[0])
        write_json(folders[0] / "manifest.json", {"status": "running", "steps": {}})
    if kind == "half":
        for name in ("craft", "knowledge/tests", "cor_rait/ood.verdicts.parquet", "cor_rait/metrics.json"):
            path = folders[0] / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        listed(folders[0], status="running")
    if kind == "two":
        folders.append(made_run(tmp_path / "other", train=30, seed=3))
    page = show(write_report(folders, tmp_path / "page.html"))
    assert page.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    if kind == "two":
        assert settle(page, run="1") == 30 + 2 * 20
        assert settle(page) == 2 * (30 + 2 * 20)
    if kind == "many":
        assert page.execute_script(COUNT, "#out .set:first-of-type .bars .row") == 17
    if kind in ("begun", "half"):
        assert "not finished" in page.find_element("css selector", ".notice").text


@pytest.mark.slow
def test_a_large_page_stays_quick_to_filter(show, tmp_path):
    """Only a page of questions is ever in the document, however many are found."""
    folder = made_run(tmp_path / "run", train=3000, tests=30)
    page = show(write_report([folder], tmp_path / "page.html"))
    assert settle(page) == 3060
    assert page.execute_script(COUNT, "#list > li") == 40
    assert page.execute_script(COUNT, "*") < 20_000
