"""The report as a file: what it says, what it holds, how large it is, and that it loads nothing."""

import base64
import hashlib
import json
import re
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

import numpy
import pytest

import refimpl
from refimpl.errors import CheckpointError
from refimpl.parity.comparison import compare
from refimpl.parity.comparison.report import LIMIT, render, write_report
from refimpl.parity.comparison.report.marks import GLYPHS, MEANINGS, STEPS, step
from refimpl.parity.comparison.verdict import STATUSES
from refimpl.parity.diagnosis import Answer, Diagnosis
from refimpl.parity.dumps.dump import Dump
from refimpl.parity.faults import CATALOGUE, effect, first_changed, run_faulty
from refimpl.parity.goldens import read_golden
from refimpl.parity.reference import run_reference
from tests.parity.comparison.made_reports import MULTIPLIER, made_report, with_missing, with_verdict

GOLDEN = Path(__file__).parents[3] / "golden"
QUERY = "roberta.encoder.layer.{}.attention.self.query"
VOID = {"meta", "wbr", "input", "br"}
MAY_STAY_OPEN = {"td": {"td", "tr"}, "tr": {"tr"}}  # element -> what closes it, if it is on top


class Page(HTMLParser):
    """A page taken apart; fails where elements are not nested as they should be."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.cells, self.rows, self.heads = [], [], [], {}, {}
        self.words, self._row = "", None
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        while self.open and tag in MAY_STAY_OPEN.get(self.open[-1], ()):
            self.open.pop()
        self.elements.append((tag, attributes))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self._row = attributes.get("id")
        if tag == "td":
            self.cells.append(attributes.get("class", ""))
        if tag == "a" and self.open[-2:] == ["td", "a"]:
            self.cells[-1] = (self.cells[-1], attributes["href"])

    def handle_endtag(self, tag):
        while self.open and self.open[-1] != tag and self.open[-1] in MAY_STAY_OPEN:
            self.open.pop()
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"script", "style"} & set(self.open):
            self.words += data
        if self._row and self.open and self.open[-1] in ("th", "td"):
            into = self.heads if self.open[-1] == "th" else self.rows
            into[self._row] = into.get(self._row, "") + ("" if into is self.heads else " ") + data

    @property
    def first(self):
        """The name that the marked cell leads to; None where no cell is marked."""
        marked = [
            href for kind, href in filter(lambda c: len(c) == 2, self.cells) if "first" in kind
        ]
        assert len(marked) <= 1
        return self.heads[marked[0][1:]] if marked else None

    def data(self):
        text = re.search(r'<script type="application/json" id="data">(.*?)</script>', self.rawdata_)
        return json.loads(text[1])


def read(report, **options):
    text = render(report, **options)
    page = Page(text)
    page.rawdata_ = text
    return page


@pytest.fixture(scope="module")
def parts():
    return made_report(first=QUERY.format(1))


@pytest.fixture(scope="module")
def holds():
    return made_report()


# --- what it says ---------------------------------------------------------------------------------


def test_the_verdict_comes_first(parts, holds):
    assert (
        read(parts)
        .words.split("refimpl compare")[1]
        .startswith(f"\nNot held: first parts at {QUERY.format(1)} (introduced there, ")
    )
    assert "Held: " in read(holds).words
    assert read(parts).first == QUERY.format(1)
    assert read(holds).first is None


def test_it_says_by_which_rule(parts):
    assert "32 honest runs" in read(parts).words
    assert f"beyond {MULTIPLIER:g} floors" in read(parts).words


def test_every_value_has_a_cell_and_a_line(parts):
    page = read(with_missing(parts, [QUERY.format(0)]))
    names = [v.name for v in parts.verdicts]
    assert list(page.heads.values()) == names
    linked = [cell[1] for cell in page.cells if len(cell) == 2]
    assert sorted(linked) == sorted(f"#{row}" for row in page.heads)
    assert "– MISSING" in page.rows[f"t{names.index(QUERY.format(0))}"]


def test_inputs_are_told_with_positions_and_tokens(parts):
    tokens = [[f"▁w{i}" for i in range(5)], ["a", "b", "c", "<pad>", "<pad>"]]
    truth = replace(parts.truth, about={**parts.truth.about, "tokens": tokens})
    page = read(replace(parts, truth=truth))
    assert all(f"Row {r}" in page.words and tokens[r][2] in page.words for r in (0, 1))
    assert page.data()["positions"][1][4] == "id 9 <pad>, masked"


def test_a_value_without_numbers_is_shown(parts):
    nothing = dict.fromkeys(("units", "introduced", "max_abs", "max_rel", "rms", "cosine"))
    name = "roberta.encoder.layer.0.output.dense"
    report = with_verdict(parts, name, status="SHAPE", note="expected 5, got 4", **nothing)
    given = {**report.given.taps, name: numpy.zeros((2, 4, 12))}
    page = read(replace(report, given=replace(report.given, taps=given)))
    assert page.first == name
    number = [v.name for v in parts.verdicts].index(name)
    assert page.data()["taps"][number] is None
    assert "expected 5, got 4" in page.rows[f"t{number}"]


@pytest.mark.parametrize("shape", [(0, 5, 12), (2, 0, 12), (2, 5, 0)])
def test_a_value_without_elements_is_shown(parts, shape):
    name = parts.verdicts[0].name
    nothing = {name: numpy.zeros(shape)}
    truth, given = (replace(x, taps={**x.taps, **nothing}) for x in (parts.truth, parts.given))
    page = read(replace(parts, truth=truth, given=given))
    assert page.data()["taps"][0] is None


def test_unknown_names_are_told(parts):
    page = read(replace(parts, unknown={"layer_0.q": (QUERY.format(0),), "x": ()}))
    assert f"layer_0.q: nearest {QUERY.format(0)}" in page.words


def test_nothing_to_compare(parts):
    missing = [v.name for v in parts.verdicts if v.kind == "tap"]
    report = with_missing(parts, missing)
    report = replace(report, verdicts=tuple(v for v in report.verdicts if v.kind == "tap"))
    assert report.exit_code == 2
    assert "othing was compared" in read(report).words


def test_mistakes_that_show_first_there_are_named_unless_there_is_a_diagnosis(parts):
    page = read(parts)
    links = [a["href"] for tag, a in page.elements if tag == "a"]
    assert any(link.endswith("faults/#query_bias_missing") for link in links)
    assert not any("/faults/" in a["href"] for tag, a in read(made_report()).elements if tag == "a")


def test_mistakes_of_other_families_are_not_named():
    report, first = planted("xlm_roberta/padding_left", "positions_count_padding")
    assert CATALOGUE["xlm_positions_like_roberta"].may_part_first(first)
    text = render(report)
    assert "faults/#positions_from_zero" in text
    assert "faults/#xlm_positions_like_roberta" not in text


def diagnosis(*answers, **others):
    told = {
        "architecture": "XLMRobertaModel",
        "arithmetic": "float32",
        "first": "",
        "before": 900.0,
    }
    return Diagnosis(answers=answers, **{**told, "values": 31, "unknown": (), **others})


def test_a_diagnosis_is_told_with_its_proof_and_its_place_in_the_documentation(parts):
    answer = Answer((CATALOGUE["norm_eps_1e_12"], CATALOGUE["gelu_tanh"]), 900.0, 0.7, 31)
    page = read(parts, diagnosis=diagnosis(answer))
    assert "norm_eps_1e_12(eps=1e-12)" in page.words
    assert "from 900 down to 0.7 floor units over 31 values" in page.words
    links = [a.get("href", "") for _, a in page.elements]
    assert any(link.endswith("faults/#gelu_tanh") for link in links)
    assert "known mistake" not in page.words


def test_a_diagnosis_without_a_name_says_why(parts, holds):
    nothing = diagnosis(arithmetic="", abstained="two explain it <equally>")
    assert (
        "no known mistake explains it: two explain it <equally>"
        in read(parts, diagnosis=nothing).words
    )
    right = diagnosis(Answer((), 0.9, 0.9, 31))
    assert "computes what the reference does" in read(holds, diagnosis=right).words


# --- planted mistakes: the marked cell is where they are ------------------------------------------

PLANTED = [
    ("xlm_roberta/padding_left", "positions_count_padding"),
    ("xlm_roberta/masked_lm", "gelu_tanh"),
    ("xlm/lm", "norm_variance_unbiased"),
    ("xlm_roberta_xl/causal_lm_cache", "attention_residual_missing"),
    ("xmod/mixed_languages", "xmod_adapter_not_activated"),
]


@cache
def planted(case, fault):
    """The report on the reference with a mistake in it; what the mistake changes first."""
    golden = read_golden(GOLDEN / case)
    model = refimpl.load(GOLDEN / case, dtype="float64")
    faults = [CATALOGUE[fault]]
    changed = effect(*(run_faulty(model, golden.inputs(), x) for x in ([], faults)))
    single = refimpl.load(GOLDEN / case, dtype="float32")
    report = compare(GOLDEN / case, run_reference(single, golden.inputs(), faults))
    return report, first_changed(changed)


@pytest.mark.parametrize(("case", "fault"), PLANTED)
def test_the_marked_cell_is_the_planted_mistake(case, fault):
    report, first = planted(case, fault)
    page = read(report)
    assert page.first == first
    parting = [n for n, row in page.rows.items() if any(f"{GLYPHS[s]} {s}" in row for s in PARTING)]
    assert page.heads[parting[0]] == first
    at = next(cell for cell in page.cells if cell[1:] == (f"#{parting[0]}",))
    assert int(at[0][1]) >= int(step(1.001 * report.floors.multiplier, report.floors.multiplier)[1])


PARTING = ("DIFF", "SHAPE", "DTYPE", "NAN")


def test_other_inputs_and_foreign_values_make_a_page():
    case = GOLDEN / "xlm_roberta/hidden_states"
    golden = read_golden(case)
    right = run_reference(refimpl.load(case, dtype="float32"), golden.inputs())
    other = replace(right, inputs={**right.inputs, "input_ids": right.inputs["input_ids"] + 1})
    assert read(compare(case, other)).first == "input_ids"
    assert read(compare(case, Dump({"of another": numpy.zeros(3)}))).first is None


# --- what it is made of ---------------------------------------------------------------------------

EVIL = '"><script>alert(1)</script><img src=x onerror=alert(2)>'


def test_what_comes_from_files_is_escaped(parts):
    name = f"roberta.encoder.layer.1.{EVIL}"
    report = with_verdict(parts, QUERY.format(0), name=name, note=EVIL, where=EVIL, since=EVIL)
    about = {"made_by": EVIL, EVIL: EVIL, "tokens": [[EVIL] * 5] * 2}
    report = replace(
        report,
        candidate=EVIL,
        reference=EVIL,
        notes=(EVIL,),
        unknown={EVIL: (EVIL,)},
        truth=replace(report.truth, about=about),
    )
    page = read(report)
    assert [tag for tag, _ in page.elements].count("script") == 2
    assert "img" not in [tag for tag, _ in page.elements]
    assert page.data()["positions"][0][0].startswith('id 0 "><script>')
    assert "alert(1)" in page.words


def test_control_characters_and_endless_names_do_no_harm(parts):
    page = read(with_verdict(parts, QUERY.format(0), note="\x00\x1b[2J\u202e" + "x" * 100_000))
    assert "\x1b" not in page.words
    assert "\x00" not in page.words
    assert len(page.rawdata_) < 100_000


def test_nothing_is_loaded_and_only_its_own_script_runs(parts):
    page = read(parts)
    text = page.rawdata_
    for tag, attributes in page.elements:
        assert tag not in {"link", "img", "iframe", "object", "embed", "base", "form", "image"}
        assert not {"src", "srcset", "style", "data"} & set(attributes)
        assert not any(name.startswith("on") for name in attributes)
        href = attributes.get("href", "#")
        assert href.startswith("#") or (tag == "a" and href.startswith("https://refimpl."))
    style, script = (
        re.search(f"<{t}>(.*?)</{t}>", text, re.DOTALL)[1] for t in ("style", "script")
    )
    assert not re.search(r"url\(|@import|https?:", style)
    assert not re.search(
        r"fetch|XMLHttp|import\(|innerHTML|eval\(|https?:", script.replace(SVG, "")
    )
    policy = next(a["content"] for _, a in page.elements if a.get("http-equiv"))
    for content in (style, script):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy


SVG = "http://www.w3.org/2000/svg"


def test_without_a_script_nothing_is_offered_that_needs_one(parts):
    for tag, attributes in read(parts).elements:
        if tag in ("input", "fieldset"):
            continue  # inside of what is hidden
        if "js" in attributes.get("class", "").split():
            assert "hidden" in attributes


def test_the_file_is_written_whole_or_not_at_all(parts, tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    write_report(parts, path)
    assert path.read_text("utf-8") == render(parts)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            write_report(made_report(), path)
    assert path.read_text("utf-8") == render(parts)
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(CheckpointError, match=r"report\.html: cannot be written: No such file"):
        write_report(parts, tmp_path / "missing" / "report.html")


def test_ids_are_shown_position_by_position():
    report, first = planted("xlm_roberta/padding_left", "positions_count_padding")
    page = read(report)
    entry = page.data()["taps"][[v.name for v in report.verdicts].index(first)]
    wrong = report.truth.taps[first] != report.given.taps[first]
    assert [letter != " " for letter in entry[0]] == wrong.reshape(-1).tolist()
    assert [(y, x) for y, x, _ in entry[3]] == [tuple(at) for at in numpy.argwhere(wrong).tolist()]


# --- size -----------------------------------------------------------------------------------------


def test_a_deep_model_stays_small():
    report = made_report(
        48, 16, 16, 12, 12, 8, first="roberta.encoder.layer.30.attention.self.scores"
    )
    page = read(report)
    assert len(page.rawdata_.encode()) <= LIMIT
    assert page.first == "roberta.encoder.layer.30.attention.self.scores"
    drawn = [tap for tap in page.data()["taps"] if tap]
    assert len(drawn) == len(report.verdicts)
    merged = [tap for tap in drawn if tap[1][2:4] != [1, 1]]
    assert merged  # there was no room for all
    for letters, (lines, columns, down, across, _), *_ in drawn:
        assert len(letters) == -(-lines // down) * -(-columns // across)


def test_of_very_many_values_the_worst_are_kept(parts):
    many = tuple(replace(parts.verdicts[0], name=f"a.{i}." + "b" * 250) for i in range(4000))
    report = replace(parts, verdicts=(*many, *parts.verdicts))
    page = read(report)
    assert len(page.rawdata_.encode()) <= LIMIT
    assert page.first == QUERY.format(1)
    assert re.search(r"[\d,]+ values with the least error are left out", page.words)


def test_endless_names_and_inputs_are_cut(parts):
    ids = numpy.arange(64 * 512).reshape(64, 512) + 100_000
    inputs = dict.fromkeys(("input_ids", "langs", "labels", "token_type_ids"), ids)
    about = {f"{i}": "<" * 400 for i in range(10_000)}
    about["tokens"] = [["&" * 400] * 512] * 64
    report = replace(
        parts,
        unknown={f"{i}" + "&" * 400: ("&" * 400,) * 3 for i in range(10_000)},
        truth=replace(parts.truth, inputs=inputs, about=about),
    )
    page = read(report)
    assert len(page.rawdata_.encode()) <= LIMIT
    assert "more names" in page.words
    assert "What follows is left out" in page.words


# --- how it looks ---------------------------------------------------------------------------------


def colours(block):
    return dict(re.findall(r"--([\w-]+): ([^;]+);", block))


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
    return sum(w * x for w, x in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(a, b):
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def schemes():
    style = files("refimpl.parity.comparison.report").joinpath("page.css").read_text("utf-8")
    light, dark = re.findall(r":root \{(.*?)\}", style, re.DOTALL)[:2]
    light = colours(light)
    return {"light": light, "dark": {**light, **colours(dark)}}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_the_contrast_of_wcag_aa(scheme):
    names = schemes()[scheme]
    for ink in ("ink", "faint", "link", "good", "bad"):
        for paper in ("paper", "panel"):
            assert contrast(names[ink], names[paper]) >= 4.5, (ink, paper)
    for i in range(STEPS):
        ink = names[names[f"k{i}"][6:-1]]
        assert contrast(ink, names[f"c{i}"]) >= 4.5, i
    for line in ("total", "introduced", "focus"):
        for paper in ("paper", "floor", "rounding"):
            assert contrast(names[line], names[paper]) >= 3.0, (line, paper)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_shades_are_told_apart_without_colour(scheme):
    names = schemes()[scheme]
    shades = [luminance(names[f"c{i}"]) for i in range(STEPS)]
    rising = sorted(shades)
    assert shades in (rising, rising[::-1])
    assert all((b + 0.05) / (a + 0.05) > 1.07 for a, b in pairwise(rising))


def test_every_status_has_a_sign_of_its_own_and_a_meaning():
    assert set(GLYPHS) == set(MEANINGS) == set(STATUSES)
    assert len(set(GLYPHS.values())) == len(STATUSES)
