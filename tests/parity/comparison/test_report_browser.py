"""The report in a real browser: by keyboard, in the dark, on a phone, on paper, scriptless."""

from dataclasses import replace

import pytest

from refimpl.parity.comparison.report import write_report
from tests.parity.comparison.browser import CHROMIUM, opened
from tests.parity.comparison.made_reports import made_report, with_verdict

pytestmark = [
    pytest.mark.large,
    pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: Chromium is not installed"),
]

FIRST = "roberta.encoder.layer.1.attention.self.query"
FOCUSED = "document.activeElement"
LABEL = f"{FOCUSED}.getAttribute('aria-label')"
TITLE = "document.getElementById('tap-title').textContent"


@pytest.fixture(scope="module")
def report():
    return made_report(first=FIRST)


@pytest.fixture
def show(tmp_path):
    """Open a report in a browser: ``with show(report) as page``."""

    def opener(report, **size):
        path = tmp_path / "report.html"
        write_report(report, path)
        return opened(tmp_path / "profile", path.as_uri(), **size)

    return opener


def test_nothing_is_loaded_and_nothing_is_wrong(report, show):
    evil = with_verdict(report, FIRST, note="</script><script>document.title='evil'</script>")
    with show(replace(evil, candidate="<img src=x onerror=\"document.title='evil'\">")) as page:
        page.go()
        asked = [e for e in page.events if e["method"] == "Network.requestWillBeSent"]
        assert [e["params"]["request"]["url"] for e in asked] == [page.url]
        wrong = {"Runtime.exceptionThrown", "Log.entryAdded"}
        assert [e for e in page.events if e["method"] in wrong] == []
        assert page.ask("document.title") != "evil"


def test_the_first_that_parts_is_one_key_away(report, show):
    with show(report) as page:
        page.go()
        page.press("f")
        assert FIRST in page.ask(LABEL)
        assert "the first that parts" in page.ask(LABEL)
        assert page.ask(TITLE) == FIRST
        page.press("n")
        assert "attention.self.key" in page.ask(LABEL)
        page.press("p")
        assert FIRST in page.ask(LABEL)


def test_a_map_is_one_stop_and_arrows_move_in_it(report, show):
    with show(report) as page:
        page.go()
        for grid in page.ask("[...document.querySelectorAll('.map')].map((_, i) => i)"):
            cells = f"[...document.querySelectorAll('.map')[{grid}].querySelectorAll('a')]"
            assert page.ask(f"{cells}.filter((a) => a.tabIndex === 0).length") == 1
            assert page.ask(f"document.querySelectorAll('.map')[{grid}].role") == "grid"
        page.press("f", "ArrowLeft")
        assert page.ask(LABEL).startswith("layer 0, roberta.encoder.layer.0.attention.self.query")
        page.press("ArrowDown", "ArrowDown", "End")
        assert page.ask(LABEL).startswith("layer 1, roberta.encoder.layer.1.attention.self.value")
        page.press("Enter")
        assert page.ask(TITLE) == "roberta.encoder.layer.1.attention.self.value"
        assert page.ask(f"{FOCUSED}.id") == "tap-title"
        page.press("Tab")
        assert page.ask(f"{FOCUSED}.closest('table').className").startswith("cells")
        page.press("ArrowRight", "ArrowDown")
        assert page.ask(LABEL).startswith("row 0, head 1, position 1 (id 1): about ")
        page.press("Escape")
        assert "attention.self.value" in page.ask(LABEL)


def test_what_has_the_focus_shows_it(report, show):
    with show(report) as page:
        page.go()
        for keys in (["f"], ["Tab"], ["Tab", "Tab"], ["Tab"]):
            page.press(*keys)
            style = f"getComputedStyle({FOCUSED})"
            assert page.ask(f"{style}.outlineStyle") == "solid"
            assert float(page.ask(f"{style}.outlineWidth").removesuffix("px")) >= 2


def test_single_keys_can_be_switched_off(report, show):
    with show(report) as page:
        page.go()
        page.ask("document.getElementById('shortcuts').click()")
        page.press("f")
        assert page.ask(f"{FOCUSED}.tagName") == "BODY"


def test_values_are_filtered(report, show):
    shown = "[...document.querySelectorAll('.values tbody tr')].filter((r) => !r.hidden).length"
    with show(report) as page:
        page.go()
        parting = page.ask("document.querySelectorAll('.values .status').length")
        assert page.ask(shown) == parting
        page.ask("document.querySelector('input[value=OK]').click()")
        assert page.ask(shown) == report.counts()["DIFF"]
        page.press("/")
        page.press(*"query")
        assert page.ask(shown) == 1
        assert page.ask("document.getElementById('shown').textContent").startswith("1 of ")


def test_the_shades_show_what_is_asked(report, show):
    cell = f"document.querySelector('a[aria-label*=\"{FIRST.replace('query', 'key')}\"]')"
    with show(report) as page:
        page.go()
        assert page.ask(f"{cell}.parentElement.className") == "c4"
        page.ask("document.querySelector('input[value=introduced]').click()")
        assert page.ask(f"{cell}.parentElement.className") == "c2"


def test_cells_have_names_for_those_who_do_not_see_them(report, show):
    with show(report) as page:
        page.go()
        nodes = page.send("Accessibility.getFullAXTree")["nodes"]
        roles = [node["role"]["value"] for node in nodes if not node.get("ignored")]
        assert roles.count("grid") == 5  # the maps, and the cells of the opened tap
        names = [n["name"]["value"] for n in nodes if "name" in n and not n.get("ignored")]
        assert any(name.startswith(f"layer 1, {FIRST}, DIFF, ") for name in names)


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_the_page_is_never_wider_than_the_screen(report, show, width):
    with show(report, width=width) as page:
        page.size(width, 900, mobile=width < 500)
        page.go()
        assert page.ask("document.documentElement.scrollWidth") <= width


def test_small_maps_need_no_scrolling(report, show):
    with show(report) as page:
        page.go()
        maps = "[...document.querySelectorAll('.stretch .wide')]"
        assert page.ask(f"{maps}.filter((m) => m.scrollWidth > m.clientWidth).length") == 0


def test_it_is_dark_where_that_is_asked_for(report, show):
    paper = "getComputedStyle(document.body).backgroundColor"
    with show(report) as page:
        page.dark()
        page.go()
        assert page.ask(paper) == "rgb(16, 22, 29)"
        page.send("Emulation.setEmulatedMedia", media="print", features=[])
        assert page.ask(paper) == "rgb(255, 255, 255)"
        assert len(page.send("Page.printToPDF")["data"]) > 10_000


def test_without_a_script_the_verdict_the_maps_and_the_table_are_there(report, show):
    with show(report) as page:
        page.without_scripts()
        page.go()
        nodes = page.send("Accessibility.getFullAXTree")["nodes"]
        heard = [n["name"]["value"] for n in nodes if "name" in n and not n.get("ignored")]
        said = "".join(heard).replace(" ", "")  # a name may be heard in pieces
        assert f"Notheld:firstpartsat{FIRST}" in said
        for verdict in report.verdicts:
            assert verdict.name in said
        assert "Singlekeys" not in said


def test_a_deep_model_is_shown_without_a_long_pause(show):
    deep = made_report(48, 32, 32, 2, 32, 20, "roberta.encoder.layer.40.attention.self.probs")
    with show(deep) as page:
        page.go()
        page.press("f")
        assert "layer 40, " in page.ask(LABEL)
        assert page.ask("document.activeElement.getBoundingClientRect().right") <= 1280
        assert page.ask("document.querySelectorAll('.cells td').length") > 2000
