"""The page in a real, headless Chromium: load, draw, erase, attack, stop, reload, label; wide and narrow."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from colour_world import SMALL, SideJudge
from sides_world import sides_world

from expunge.records import Detection
from expunge.ui.served import Served
from expunge.ui.server import Page, serving
from headless import chromium, needs_chromium

pytestmark = needs_chromium
PATIENCE = 120_000
"""Milliseconds for anything to appear, on a busy machine."""
PAGES = ("compare", "attack", "erase", "reports", "label")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened


@pytest.fixture
def page(sides: Served) -> Page:
    return Page(sides)


@pytest.fixture(params=[1440, 390])
def tab(request: pytest.FixtureRequest, browser: Any, page: Page) -> Iterator[Any]:
    """The page, opened; whatever it says in the console or asks of others is an error."""
    with serving(page) as address:
        context = browser.new_context(viewport={"width": request.param, "height": 900})
        opened, said, foreign = context.new_page(), list[str](), list[str]()
        opened.set_default_timeout(PATIENCE)
        opened.on("console", lambda message: said.append(message.text))
        opened.on("pageerror", lambda error: said.append(str(error)))
        opened.on("request", lambda one: None if one.url.startswith((address, "data:")) else foreign.append(one.url))
        opened.goto(address)
        opened.wait_for_selector("body[data-ready]")
        yield opened
        context.close()
        assert not said
        assert not foreign


def to(tab: Any, name: str) -> None:
    tab.click(f'nav a[href="#{name}"]')
    tab.wait_for_selector(f"#{name}:not([hidden])")


def fits(tab: Any) -> bool:
    """Whether nothing stands out on the right."""
    return bool(tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth"))


def test_every_page_fits_and_has_one_heading_and_labels_for_all_fields(tab: Any) -> None:
    for name in PAGES:
        to(tab, name)
        assert fits(tab), name
        assert tab.locator("h1:visible").count() == 1
        bare = tab.eval_on_selector_all(f"#{name} input, #{name} select",
                                        "all => all.filter(one => !one.labels || !one.labels.length).length")
        assert bare == 0, name


@pytest.mark.slow
def test_erase_then_draw_then_reload(tab: Any, sides: Served) -> None:
    to(tab, "erase")
    tab.fill("#erase [name=concept]", "church")
    tab.press("#erase [name=concept]", "Tab")
    tab.click("[data-kin] button >> nth=0")
    assert tab.locator("[data-kept] button").all_inner_texts() == ["house ×"]
    tab.click("[data-estimate]")
    tab.locator('[data-result="estimate"] dl').wait_for()
    tab.click("#erase button.main")
    tab.locator("text=See before and after").wait_for()
    assert len(sides.patches()) == 2
    assert "nothing in particular" in tab.locator('[data-result="erase"] dl').inner_text()
    assert fits(tab)
    tab.click("text=See before and after")
    tab.locator("#compare .said", has_text=re.compile(r"in \d of 4 before and in \d of 4 after")).wait_for()
    assert tab.locator("#compare .card").count() == 4
    assert tab.locator("#compare .card img").count() == 12
    assert fits(tab)
    said = tab.locator("#compare .said").inner_text()
    tab.reload()
    tab.wait_for_selector("body[data-ready]")
    assert tab.locator("#compare .said").inner_text() == said
    assert tab.locator("#compare .card img").count() == 12


@pytest.mark.slow
def test_attack_keep_a_find_and_stop(tab: Any, sides: Served, page: Page) -> None:
    to(tab, "attack")
    tab.fill("#attack [name=prompt]", "a church")
    tab.select_option("#attack [name=attack]", "own")
    tab.fill("#attack [name=count]", "8")
    tab.click("#attack button.main")
    tab.locator("#attack .said", has_text="Brought back").wait_for()
    assert tab.locator("#attack .try").count() == 8
    assert fits(tab)
    tab.locator("text=Keep this find").first.click()
    tab.locator(".kept code", has_text="expunge attack").wait_for()
    assert len(list((sides.root / "church" / "cases").iterdir())) == 1

    tab.select_option("#attack [name=attack]", "seed-search")
    tab.fill("#attack [name=prompt]", "a picture of a dog")
    asked = page.jobs.last["attack"].number
    tab.click("#attack button.main")
    tab.locator("#job:not([hidden])").wait_for()
    tab.reload()
    tab.wait_for_selector("body[data-ready]")
    if page.jobs.running is not None:  # it may have been quick
        tab.click("[data-stop]")
    tab.locator("#job").wait_for(state="hidden")
    assert page.jobs.last["attack"].number == asked + 1
    assert page.jobs.last["attack"].state in ("stopped", "done")
    assert not sides.model.patch_hash


@pytest.mark.slow
def test_pictures_that_the_detector_failed_on_are_told_and_are_no_success(tab: Any, sides: Served,
                                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(SideJudge):
        def __call__(self, pictures: Any) -> list[Detection]:
            return [Detection(error="broke") for _ in pictures]

    monkeypatch.setattr(sides.world.judges, "first", Broken())
    to(tab, "attack")
    tab.fill("#attack [name=prompt]", "a church")
    tab.select_option("#attack [name=attack]", "own")
    tab.click("#attack button.main")
    tab.locator("#attack .said", has_text="the detector failed on all 2 images").wait_for()
    assert "2 of 2 tries failed" in tab.locator("#attack .result").inner_text()
    assert tab.locator("#attack .try b.unsure").all_inner_texts() == ["Failed", "Failed"]
    to(tab, "compare")
    tab.fill("#compare [name=prompt]", "a church")
    tab.click("#compare button.main")
    tab.locator("#compare .said", has_text="in 0 of 0 before and in 0 of 0 after. It cannot tell of 8").wait_for()


@pytest.mark.slow
def test_a_training_stops_when_told_and_says_that_it_goes_on(tab: Any, page: Page) -> None:
    to(tab, "erase")
    tab.fill("#erase [name=concept]", "church")
    tab.locator("[name=method][value=esd-fast]").check()
    tab.locator("#erase details.more summary").click()
    tab.fill("#erase [name=steps]", "100000")
    tab.click("#erase button.main")
    tab.locator(".plot").wait_for()
    tab.click("[data-stop]")
    tab.locator("#erase .said", has_text="start the same edit again to go on").wait_for()
    assert page.jobs.last["erase"].state == "stopped"
    assert fits(tab)


@pytest.mark.slow
def test_mistakes_are_told_in_words(tab: Any) -> None:
    to(tab, "compare")
    tab.fill("#compare [name=prompt]", "a church " * 40)
    tab.click("#compare button.main")
    tab.locator("#trouble:not([hidden])").wait_for()
    assert "longer" in tab.locator("#trouble").inner_text() or "tokens" in tab.locator("#trouble").inner_text()


@pytest.mark.slow
def test_label_by_keys_and_open_the_report(tab: Any, sides: Served, sides_model: Any) -> None:
    from expunge.evaluation import evaluate

    evaluate(sides_model, sides.patch("church"), settings=SMALL, out=sides.root / "church" / "evaluation",
             world=sides_world())
    tab.reload()
    tab.wait_for_selector("body[data-ready]")
    to(tab, "label")
    tab.fill("#label [name=person]", "AB")
    tab.fill("#label [name=count]", "6")
    tab.click("#label button.main")
    tab.locator(".ask", has_text="Is there a church in this image?").wait_for()
    assert fits(tab)
    for number, key in enumerate("ynuyny", 1):
        tab.locator("#label", has_text=f"{number} of 6").wait_for()
        tab.keyboard.press(key)
    tab.locator("#label table").wait_for()
    assert fits(tab)
    to(tab, "reports")
    with tab.context.expect_page() as opened:
        tab.click(".runs a")
    opened.value.locator("#people").wait_for()
