"""XLM's care for characters, before and after its text is cut into words.

    replace_unicode_punctuation     full-width and typographic signs become ASCII
    remove_non_printing             control, format and unassigned characters go
    lower_characters                lower case, each character for itself
    lowercase_and_remove_accents    lower case, and letters without their marks
    normalize_romanian, remove_romanian_diacritics

Each is a function from text to text. The tables they work by have names, as the aligned forms of
the same steps (alignment.py) read them too.

Source: transformers 4.57.6 models/xlm/tokenization_xlm.py; Moses (replace-unicode-punctuation.perl,
remove-non-printing-char.perl), XLM (tools/lowercase_and_remove_accent.py) and the WMT16 scripts
(normalise-romanian.py, remove-diacritics.py), which it follows. Differs: nothing.
"""

from __future__ import annotations

import re
import unicodedata

UNICODE_PUNCTUATION = str.maketrans(
    {
        **dict.fromkeys("，、", ","),
        **dict.fromkeys("“”《》「」", '"'),
        **dict.fromkeys("∶：", ":"),
        **dict(zip("０１２３４５６７８９", "0123456789", strict=True)),
        **dict(zip("？！；（）【】〈〉～％’━", "?!;()[]<>~%'-", strict=True)),
        "…": "...",
    }
)
FULL_STOPS = re.compile(r"[。．]\s*")
_HAS_UNICODE_PUNCTUATION = re.compile(f"[。．{''.join(map(chr, UNICODE_PUNCTUATION))}]")

ROMANIAN_COMMA = str.maketrans("ŞşŢţ", "ȘșȚț")  # cedilla below -> comma below
ROMANIAN_PLAIN = str.maketrans("ȘșȚțĂăÂâÎî", "SsTtAaAaIi")


def replace_unicode_punctuation(text: str) -> str:
    """Replace full-width digits and punctuation, typographic quotes and the like by ASCII.

    A full stop of Chinese or Japanese takes the white space after it along and gets one space.

    >>> replace_unicode_punctuation("“你好”，（１）世界。   …")
    '"你好",(1)世界. ...'

    Only the signs of the table; "«", for one, is left to Moses.
    """
    if text.isascii() or not _HAS_UNICODE_PUNCTUATION.search(text):
        return text
    return FULL_STOPS.sub(". ", text).translate(UNICODE_PUNCTUATION)


def is_printing(char: str) -> bool:
    r"""Say whether a character is none of Unicode's categories C: control, format, unassigned...

    >>> [is_printing(char) for char in ("a", " ", "\u200b", "\n", "\u00ad")]
    [True, True, False, False, False]
    """
    return unicodedata.category(char)[0] != "C"


def remove_non_printing(text: str) -> str:
    r"""Remove every character of Unicode's categories C, line ends and tabs too.

    Nothing is put in their place, so words that only a tab or a line end kept apart grow together,
    and a family of emoji, held by joiners, falls into its members.

    >>> remove_non_printing("one\ttwo\u200b three")
    'onetwo three'
    """
    if text.isprintable():  # none of C, and no space but the ASCII one
        return text
    return "".join(filter(is_printing, text))


def lower_characters(text: str) -> str:
    """Lower-case each character as if it stood alone.

    It differs from ``str.lower`` in one letter: a sigma that ends a word is no final sigma.

    >>> lower_characters("ΟΔΟΣ"), "ΟΔΟΣ".lower()
    ('οδοσ', 'οδος')
    """
    return text.replace("Σ", "σ").lower()


def is_accent(char: str) -> bool:
    r"""Say whether a character is a mark that takes no room of its own (category Mn).

    >>> is_accent("\u0301"), is_accent("e"), is_accent("ा")  # the last takes room: category Mc
    (True, False, False)
    """
    return unicodedata.category(char) == "Mn"


def lowercase_and_remove_accents(text: str) -> str:
    """Lower-case a text, take letters and marks apart (NFD) and remove the marks.

    >>> lowercase_and_remove_accents("Crème Brûlée, Ærø, हिन्दी")
    'creme brulee, ærø, हिनदी'

    "æ" and "ø", which are no letters with a mark, stay; marks that other scripts cannot be read
    without go; a Hangul syllable comes apart into its letters and stays so.
    Our text is their list of words, joined by spaces.
    """
    if text.isascii():
        return text.lower()
    apart = unicodedata.normalize("NFD", text.lower())
    return "".join([char for char in apart if unicodedata.category(char) != "Mn"])


def normalize_romanian(text: str) -> str:
    """Write s and t with a comma below, where the older spelling has a cedilla.

    >>> normalize_romanian("ştiinţă") == "știință"
    True
    """
    return text.translate(ROMANIAN_COMMA)


def remove_romanian_diacritics(text: str) -> str:
    """Write the five letters of Romanian that have a diacritic without it, and no others.

    >>> remove_romanian_diacritics("știință în România, café")
    'stiinta in Romania, café'
    """
    return text.translate(ROMANIAN_PLAIN)
