"""Words of Chinese, Thai and Japanese; the last two also with modules made up for the test."""

import doctest
import subprocess
import sys
import types
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.errors import MissingExtra
from refimpl.tokenizers.xlm import segmentation
from refimpl.tokenizers.xlm.segmentation import chinese, japanese, thai

ROOT = Path(__file__).parents[3]


@pytest.fixture
def module(monkeypatch):
    """A function that puts a module in place, None for one that is not installed."""
    thai.cache_clear()
    japanese.cache_clear()
    yield lambda name, it: monkeypatch.setitem(sys.modules, name, it)
    thai.cache_clear()
    japanese.cache_clear()


def test_examples_in_docstrings():
    failed, tried = doctest.testmod(segmentation)
    assert (failed, tried > 0) == (0, True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("小明硕士毕业于中国科学院", ["小明", "硕士", "毕业", "于", "中国科学院"]),
        ("他来到了网易杭研大厦", ["他", "来到", "了", "网易", "杭研", "大厦"]),  # a guessed word
        ("T恤和C++ 3.5%。", ["T恤", "和", "C++", " ", "3.5%", "。"]),
        ("x-size 0-4", ["x", "-", "size", " ", "0", "-", "4"]),
    ],
)
def test_chinese(text, words):
    assert chinese()(text) == words


@given(st.text() | st.text("我们在北京a-1. \r\n\xa0。𠀀"))
def test_chinese_words_make_up_the_text(text):
    assert "".join(chinese()(text)) == text


def test_jieba_says_nothing_and_leaves_nothing_behind(tmp_path):
    code = (
        "from refimpl.tokenizers.xlm.segmentation import chinese; print(*chinese()('我们在北京'))"
    )
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        check=True,
        cwd=ROOT,
        env={"TMPDIR": str(tmp_path), "PATH": "", "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"},
    )
    assert run.stdout.decode().split() == ["我们", "在", "北京"]
    assert run.stderr == b""
    assert list(tmp_path.iterdir()) == []


def test_words_that_a_program_gives_jieba_are_not_ours(monkeypatch):
    before = chinese()("我们在北京")
    import jieba

    monkeypatch.setattr(jieba.dt, "FREQ", {})
    monkeypatch.setattr(jieba.dt, "total", 1)
    monkeypatch.setattr(jieba.dt, "initialized", True)
    jieba.add_word("我们在北京", 10_000_000)
    assert chinese()("我们在北京") == before == ["我们", "在", "北京"]


def test_thai_by_a_module_made_up(module):
    tokenize = types.ModuleType("pythainlp.tokenize")
    tokenize.word_tokenize = lambda text: (text[:2], text[2:])
    module("pythainlp", types.ModuleType("pythainlp"))
    module("pythainlp.tokenize", tokenize)
    assert thai()("สวัสดี") == ["สว", "ัสดี"]


def test_thai():
    pytest.importorskip("pythainlp")
    assert thai()("วันนี้อากาศดี มาก") == ["วันนี้", "อากาศ", "ดี", " ", "มาก"]


def test_thai_without_its_extra(module):
    module("pythainlp.tokenize", None)
    with pytest.raises(MissingExtra, match=r"pythainlp is not installed: pip install 'refimpl\[th"):
        thai()


class Mykytea:
    """Cuts at a letter that stands in the model file."""

    def __init__(self, arguments):
        option, path = arguments.split(" ")
        assert option == "-model"
        self.letter = Path(path).read_text()
        if not self.letter:
            raise RuntimeError("Badly formed model (header incorrect)")

    def getWS(self, text):  # noqa: N802 (KyTea's name)
        return iter(text.split(self.letter))


@pytest.fixture
def kytea(module):
    """KyTea, made up."""
    made_up = types.ModuleType("Mykytea")
    made_up.Mykytea = Mykytea
    module("Mykytea", made_up)


def test_japanese_by_a_module_made_up(kytea, tmp_path):
    (tmp_path / "model.bin").write_text("の")
    assert japanese(str(tmp_path / "model.bin"))("日本の山") == ["日本", "山"]


def test_japanese_without_its_extra(module):
    module("Mykytea", None)
    with pytest.raises(MissingExtra, match=r"kytea is not installed: pip install 'refimpl\[ja"):
        japanese("model.bin")


def test_japanese_without_a_model(kytea, tmp_path):
    with pytest.raises(ValueError, match=r"model: expected a KyTea model file .* got '.*/nowhere'"):
        japanese(str(tmp_path / "nowhere"))
    spaced = tmp_path / "a model"
    spaced.write_text("の")
    with pytest.raises(ValueError, match=r"at a path without spaces, got '.*/a model'"):
        japanese(str(spaced))
    (tmp_path / "empty").write_text("")
    with pytest.raises(ValueError, match=r"got .*/empty \(Badly formed model"):
        japanese(str(tmp_path / "empty"))


def test_what_stands_where_no_japanese_model_is_named(kytea, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ValueError, match=r"got '.*/local/share/kytea/model.bin'"):
        japanese()
