"""Texts for tests of tokenizers: real lines in many languages, nasty strings, and random ones.

The real lines are the translations of the programs installed on the machine (gettext catalogues
below ``/usr/share/locale``): everyday prose, menus and messages, with their format strings, markup,
abbreviations and odd spaces, in whichever languages are installed.
"""

import gettext
import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from hypothesis import strategies as st

LOCALES = Path("/usr/share/locale")
FEWEST_LANGUAGES = 20


def lines(count: int = 20_000) -> list[tuple[str, str]]:
    """Return (language, line) for ``count`` different lines, as many of each language as there are.

    The same catalogues give the same lines in the same order: the languages take turns, in the
    order of their names, and a language's lines come in the order of their checksums, which mixes
    long with short. The language is the name of the catalogue's folder ("pt_BR", "sr@latin").

    Skips the test on a machine that has too few.
    """
    found = all_lines()
    languages = {language for language, _ in found}
    if len(found) < count or len(languages) < FEWEST_LANGUAGES:
        pytest.skip(
            f"{LOCALES} holds {len(found)} lines in {len(languages)} languages, "
            f"expected {count} in {FEWEST_LANGUAGES}"
        )
    return found[:count]


@cache
def all_lines() -> list[tuple[str, str]]:
    """Return every (language, line), the languages taking turns."""
    seen: set[str] = set()
    queues = {}
    for folder in sorted(LOCALES.glob("*/LC_MESSAGES")):
        new = {line for file in sorted(folder.glob("*.mo")) for line in translations(file)} - seen
        seen |= new
        queues[folder.parent.name] = sorted(new, key=lambda line: (zlib.crc32(line.encode()), line))
    found = []
    for turn in range(max(map(len, queues.values()), default=0)):
        found += [(name, queue[turn]) for name, queue in queues.items() if turn < len(queue)]
    return found


def translations(file: Path) -> Iterator[str]:
    """Give every line that a catalogue translates something to; nothing for a broken catalogue."""
    try:
        with file.open("rb") as stream:
            catalogue = gettext.GNUTranslations(stream)._catalog
    except (OSError, ValueError, LookupError):  # cut short; no such encoding; an odd plural rule
        return
    for key, text in catalogue.items():
        if key != "":  # that one is the header
            yield from (line for line in text.split("\n") if line.strip())


def nasty() -> list[str]:
    """Return texts at the edges of Unicode and of what a tokenizer may take for granted."""
    marks = "\u0301\u0308\u0327\u05b8\u0651\u093f\u0e33\u3099\u20e3"  # combining, of six scripts
    hidden = "\u00ad\u034f\u061c\u115f\u180e\u200b\u200c\u200d\u200e\u2060\u2066\ufe0f\ufeff"
    spaces = "\t\n\x0b\x0c\r\x1c\x1f \x85\xa0\u1680\u2000\u2009\u2028\u2029\u202f\u205f\u3000"
    controls = "".join(map(chr, [*range(1, 32), *range(127, 160)]))
    whole = [
        *(
            "",
            " ",
            "  ",
            "\x00",
            "a\x00b",
            "▁",
            " ▁ ",
            "▁▁▁",
            "▁the",
            "a▁b",
            "a ▁ b ",
            "\u2581\u2582",
        ),
        *(
            "<s>",
            "</s>",
            "<unk>",
            "<pad>",
            "<mask>",
            " <mask> ",
            "a<mask>b",
            "<s >",
            "<mask",
            "<<s>",
        ),
        *("e\u0301te\u0301", "\u0301", " \u0301a", "a" + "\u0301" * 40, "q\u0323\u0307", "i\u0307"),
        *("\u1e9b\u0323", "ﷺ", "ﬃ", "½", "①②", "℃ ㎏ ㌔", "™\x1eg", "…", "Ǆ", "ŉ", "ſt", "\u2126Ω"),
        *(
            "가각힣",
            "\u1100\u1161\u11a8",
            "\u1112\u1161\u11ab글",
            "한국어\u302e",
            "ｱｲｳ ｶﾞｷﾞ ﾊﾟ",
            "ＡＢＣ１２３　！～",
        ),
        *("👨‍👩‍👧‍👦", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "👍🏽", "🇩🇪🇫🇷", "1️⃣", "☺️☺", "🙂" * 30, "a🙂b🙂"),
        *(
            "שָׁלוֹם",
            "السَّلَامُ عَلَيْكُمْ",
            "لا ﻻ ﷲ",
            "हिन्दी क्षत्रिय",
            "ไทยน้ำ",
            "ខ្មែរ",
            "မြန်မာ",
            "བོད་ཡིག",
            "ⴰⴱⵎ",
        ),
        *("𝕳𝖊𝖑𝖑𝖔", "𐍈𐌰", "𠀀𪚥", "\U0010ffff", "\ue000", "\ufffd", "\ufffe\uffff", "\ufdd0"),
        *("a" * 10_000, "ab" * 5_000, "字" * 3_000, "\u0301" * 500, "aｶﾞ" * 500, "の " * 1_000),
        *(
            "x" * 200 + " " * 200 + "y",
            " " * 1_000,
            "\u3000" * 50 + "x",
            "a\u200bb\u200bc",
            "-" * 300,
        ),
        *(
            "http://a.b/c?d=e&f=%20#g",
            "%d%%-%s\t%(name)s",
            "C:\\a\\b",
            "1,234.56e-7",
            "a_b__c",
            "\\n",
        ),
        *("don't “won’t” «non»", "A.B.C. e.g. i.e.", "¿Qué? ¡No!", "ǅ ǈ ß ẞ İ ı", "ΑΣ ας", "ÅÅÅ"),
        *(
            "trailing ",
            " leading",
            " both  sides ",
            "two  spaces   three",
            "new\nline",
            "tab\there",
        ),
    ]
    odd = [*marks, *hidden, *spaces, *controls]
    return [*whole, *odd, *(f"a{char}b" for char in odd), *(f"ab {char} c{char}" for char in odd)]


# The code points at which tokenizers part: near the edges of what is normalised, joined or dropped.
RANGES = [
    *[(0x20, 0x7E), (0x01, 0x1F), (0x7F, 0xA0), (0xA1, 0x17F), (0x300, 0x36F), (0x370, 0x52F)],
    *[(0x5B0, 0x5EA), (0x610, 0x6D5), (0x900, 0x97F), (0xE00, 0xE5B), (0x1100, 0x11FF)],
    *[(0x1E00, 0x1FFF), (0x2000, 0x206F), (0x2070, 0x218F), (0x2460, 0x24FF), (0x2580, 0x2584)],
    *[(0x3000, 0x30FF), (0x3200, 0x33FF), (0x4E00, 0x4FFF), (0xAC00, 0xAC80), (0xF900, 0xFA2D)],
    *[(0xFB00, 0xFB4F), (0xFE00, 0xFE0F), (0xFE70, 0xFEFF), (0xFF00, 0xFFEF), (0x1D400, 0x1D4FF)],
    *[(0x1F300, 0x1F64F), (0x1F1E6, 0x1F1FF), (0x20000, 0x20100), (0xE0020, 0xE007F)],
]
WORDS = [
    *(
        "the ",
        "▁",
        " ",
        "  ",
        "<mask>",
        "<s>",
        "</s>",
        "<unk>",
        "<pad>",
        "e\u0301",
        "ｶﾞ",
        "한",
        "中文",
    ),
    *(
        "\u200d",
        "\ufe0f",
        "\u0301",
        "👩‍👧",
        "ﷺ",
        "안녕",
        "नमस्ते",
        "aaaa",
        "...",
        "1,000",
        "\n",
        "\x85",
    ),
]


def interesting_text(max_size: int = 30) -> st.SearchStrategy[str]:
    """Draw texts that mix scripts, marks, spaces and whole awkward sequences.

    No lone surrogates: a text that holds one has no UTF-8 form.
    """
    edges = st.one_of([st.characters(min_codepoint=a, max_codepoint=b) for a, b in RANGES])
    anything = st.characters(exclude_categories=["Cs"])
    parts = st.one_of(edges, edges, st.sampled_from(WORDS), anything)
    return st.lists(parts, max_size=max_size).map("".join)
