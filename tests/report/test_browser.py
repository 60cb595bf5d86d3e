"""Pages in a real browser: nothing is asked for, nothing complained of, and what is to move moves."""

import numpy as np
import pytest

from afmid.report.page import write_evaluation_page, write_identification_page

HOSTILE = (
    "x</script><script>window.hacked = 1</script>",
    "x\"'><img src=x onerror='window.hacked = 1'><!--<script>",
    "x' onmouseover='window.hacked = 1' style='color:red",
    "x{{ 7 * 7 }}{% raw %}&lt;script&gt;]]>\u2028",
)


@pytest.fixture(scope="module")
def page(tmp_path_factory, scan_of, answer_to):
    path = tmp_path_factory.mktemp("page") / "report.html"
    scan = scan_of()
    write_identification_page(scan, answer_to(scan), path)
    return path


def test_a_page_opens_without_a_request_and_without_a_complaint(browser, page):
    browser.open(page)
    browser.wait(lambda: browser.run("return document.querySelectorAll('#space canvas').length > 0"))
    assert browser.requests() == []
    assert browser.complaints() == []
    assert browser.run("return [...document.images].every(image => image.complete && image.naturalWidth > 0)")


def test_the_slider_shows_another_image_by_the_arrow_keys(browser, page):
    browser.open(page)
    seen = []
    for key in ("NULL", "ARROW_LEFT", "END", "ARROW_LEFT"):
        browser.press("#height", key)
        words = browser.run("return document.getElementById('height-words').textContent")
        current = browser.run("return document.querySelector('[aria-current=true] img').src")
        assert current == browser.run("return document.getElementById('layer-scan').getAttribute('href')")
        seen.append(words.split(" · ")[0])
    assert seen == ["z = 3.40 Å", "z = 3.50 Å", "z = 3.10 Å", "z = 3.20 Å"]
    assert browser.complaints() == []


def test_the_3d_view_shows_the_structure_and_turns(browser, page):
    browser.open(page)
    browser.wait(lambda: len(np.unique(browser.pixels("#space").reshape(-1, 3), axis=0)) > 50)
    above = browser.pixels("#space")
    browser.run("document.getElementById('from-side').click()")
    browser.wait(lambda: (browser.pixels("#space") != above).any(-1).mean() > 0.002)
    browser.run("document.getElementById('from-above').click()")
    browser.wait(lambda: (browser.pixels("#space") != above).any(-1).mean() < 0.001)


def test_in_3d_x_is_right_and_y_is_up(browser, page):
    browser.open(page)
    browser.wait(lambda: len(np.unique(browser.pixels("#space").reshape(-1, 3), axis=0)) > 50)
    red, green, blue = browser.pixels("#space")[60:].astype(int).transpose(2, 0, 1)  # below the buttons
    oxygen = np.argwhere((red > 150) & (green < 90) & (blue < 90))
    rest = np.argwhere((abs(red - green) < 25) & (red < 150))
    assert oxygen[:, 0].mean() < rest[:, 0].mean()  # of formaldehyde, at the largest y
    assert oxygen[:, 1].mean() == pytest.approx(rest[:, 1].mean(), abs=25)


def test_atoms_lie_on_what_the_image_shows(browser, page):
    browser.open(page)
    ring = "const box = document.querySelector('[data-structure=found] .atom').getBoundingClientRect();"
    view = "const all = document.getElementById('view').getBoundingClientRect();"
    browser.pixels("#view")  # scrolls there
    x, y = browser.run(ring + view + "return [box.x + box.width / 2 - all.x, box.y + box.height / 2 - all.y]")
    browser.run("document.getElementById('show-structure').click(); document.querySelector('.scale').remove()")
    rows, columns = np.nonzero(browser.pixels("#view")[..., 0] > 200)
    assert (columns.mean(), rows.mean()) == (pytest.approx(x, abs=4), pytest.approx(y, abs=4))


def test_maps_candidates_and_true_atoms_are_laid_over_the_scan(browser, page):
    browser.open(page)
    plain = browser.pixels("#view")
    for action in (
        "document.querySelector('[data-map]').click()",
        "document.getElementById('show-truth').click()",
        "document.querySelector('[data-show]').click()",
    ):
        before = browser.pixels("#view")
        browser.run(action)
        browser.wait(lambda before=before: bool((browser.pixels("#view") != before).any()))
    assert browser.run("return document.getElementById('structure').value") == "candidate-1"
    assert (browser.pixels("#view") != plain).any()
    assert browser.complaints() == []


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_words_do_nothing(browser, tmp_path, scan_of, answer_to, evaluation_of, text):
    scan = scan_of(text)
    name = text.replace("/", "") + ".html"
    write_identification_page(scan, answer_to(scan, text), tmp_path / name)
    write_evaluation_page(evaluation_of(text), tmp_path / f"evaluation {name}")
    for path in tmp_path.iterdir():
        browser.open(path)
        assert browser.run("return window.hacked") is None
        assert browser.run("return document.querySelectorAll('[onerror], [onmouseover]').length") == 0
        assert text.split("\u2028")[0] in browser.run("return document.body.textContent")
        assert browser.requests() == []
        assert browser.complaints() == []


def test_an_evaluation_opens_without_a_request_and_without_a_complaint(browser, tmp_path, evaluation_of):
    write_evaluation_page(evaluation_of(), tmp_path / "evaluation.html")
    browser.open(tmp_path / "evaluation.html")
    assert browser.requests() == []
    assert browser.complaints() == []
    assert browser.run("return document.scripts.length") == 0
    assert browser.run("return document.documentElement.scrollWidth <= innerWidth")


def test_without_scripts_a_page_shows_its_images_and_tables(browser, page):
    browser.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.open(page)
        shown = {
            name: browser.element(name).is_displayed()
            for name in ("#layer-scan", ".strip img", ".candidates", "#atoms", "#space", "#height")
        }
    finally:
        browser.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert shown == {
        "#layer-scan": True, ".strip img": True, ".candidates": True, "#atoms": True, "#space": False, "#height": False
    }  # fmt: skip
