"""Reading files, labels, batches, spans, journals: what stands between a file and a score."""

import json

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.validate.batches import make_batches
from refimpl.validate.fingerprint import SMALL, folder_hash
from refimpl.validate.journal import open_journal
from refimpl.validate.labels import Labels
from refimpl.validate.reading import read_entries, read_lines
from refimpl.validate.spans import Span, Window, best_answer, of_beams, of_logits
from refimpl.validate.task import language_number

NAMES = {"text": ("sentence", "text"), "label": ("label",)}


@given(st.lists(st.integers(1, 50)), st.integers(1, 200))
def test_batches_hold_every_row_once_and_keep_the_bound(lengths, tokens):
    batches = make_batches(lengths, tokens)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[row] for row in batch) <= tokens
    in_order = [lengths[row] for batch in batches for row in batch]
    assert in_order == sorted(lengths, reverse=True)


def write(tmp_path, name, text):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_tsv_has_names_or_numbers(tmp_path):
    named = write(tmp_path, "a.tsv", 'label\tx\tsentence\r\nyes\t1\tsays "no\r\n')
    (entry,) = read_entries(named, NAMES, {})
    assert entry.values == {"text": 'says "no', "label": "yes"}
    assert entry.where.endswith("a.tsv, line 2")
    plain = write(tmp_path, "b.tsv", "one\tyes\ntwo\tno\n")
    rows = read_entries(plain, NAMES, {"text": "1", "label": "2"})
    assert [row.values["text"] for row in rows] == ["one", "two"]


def test_a_line_ends_at_a_line_feed_only(tmp_path):
    path = write(tmp_path, "a.txt", "\ufeffone\u2028still one\x0bstill\ntwo")
    assert read_lines(path) == ["one\u2028still one\x0bstill", "two"]


@pytest.mark.parametrize(
    ("name", "text", "columns", "said"),
    [
        ("a.tsv", b"label\ttext\n\xff\tx\n", {}, "line 2: expected UTF-8"),
        ("a.tsv", "label\ttext\nyes\n", {}, "line 2: expected 2 columns, got 1"),
        ("a.tsv", "a\tb\nyes\tx\n", {"text": "c"}, "line 2: expected a column 'c', got a, b"),
        ("a.tsv", "a\n", {"txt": "a"}, "columns: expected some of text, label, got txt"),
        ("a.jsonl", "{'a': 1}\n", {}, "line 1: expected JSON"),
        ("a.jsonl", "\n[1]\n", {}, "line 2: expected a JSON object"),
        ("a.csv", "", {}, "data: expected a .jsonl or .tsv file"),
    ],
)
def test_what_is_no_such_file_is_an_error_that_names_the_place(tmp_path, name, text, columns, said):
    with pytest.raises(ValueError, match=said):
        read_entries(write(tmp_path, name, text), NAMES, columns)


def test_labels_are_found_by_name_case_number_and_rename():
    labels = Labels({"0": "No", "1": "YES"}, 2, {"si": "YES", "nada": "0"})
    found = [labels.number("here", x) for x in ("No", "yes", 1, "si", "nada")]
    assert found == [0, 1, 1, 1, 0]
    for wrong in ("maybe", 2, True, None):
        with pytest.raises(ValueError, match=r"here: expected a label of the model \(No, YES\)"):
            labels.number("here", wrong)
    with pytest.raises(ValueError, match="labels: expected one of No, YES, got 'x'"):
        Labels({"0": "No", "1": "YES"}, 2, {"a": "x"})
    with pytest.raises(ValueError, match="id2label: expected the keys 0 to 1"):
        Labels({"1": "a", "2": "b"}, 2, {})


def test_a_language_is_found_with_and_without_its_country():
    assert language_number(["en_XX", "sw_KE"], "sw") == 1
    with pytest.raises(ValueError, match="lang: expected one of en_XX, sw_KE, got 's'"):
        language_number(["en_XX", "sw_KE"], "s")


# --- spans ----------------------------------------------------------------------------------------

CONTEXT = {3: (0, 3), 4: (4, 7), 5: (8, 11)}  # "one two six", behind a question


def test_spans_lie_in_the_context_forwards_and_are_not_too_long():
    start = numpy.array([1.0, 9.0, 9.0, 3.0, 5.0, 4.0])
    end = numpy.array([0.5, 9.0, 9.0, 1.0, 2.0, 6.0])
    window = of_logits(start, end, CONTEXT, 20, 2)
    assert window.null == 1.5
    assert window.spans[0] == Span(11.0, 4, 11)
    assert Span(9.0, 0, 11) not in window.spans  # three tokens
    assert all(span.start < span.end for span in window.spans)
    assert [span.score for span in window.spans] == [11.0, 10.0, 7.0, 5.0, 4.0]
    assert len(of_logits(start, end, CONTEXT, 2, 30).spans) == 0  # the best two are the question's


def test_the_best_of_all_windows_counts_unless_no_answer_beats_it():
    windows = [Window(1.0, [Span(3.0, 0, 3)]), Window(9.0, [Span(2.0, 4, 7)])]
    text = "one two six"
    assert best_answer(windows, text, False, 0.0, False) == ("one", None)
    assert best_answer(windows, text, True, 0.0, False) == ("one", -2.0)
    assert best_answer(windows, text, True, -3.0, False) == ("", -2.0)
    assert best_answer(windows, text, True, 0.0, True) == ("", 1.0)  # the logit by itself
    assert best_answer([Window(0.0, [])], text, False, 0.0, False) == ("", None)


def test_beams_lie_by_rank_of_the_end():
    class Outputs:
        start_top_log_probs = numpy.array([[0.5, 0.25, 0.125]])
        start_top_index = numpy.array([[3, 4, 5]])
        end_top_log_probs = numpy.array([[0.5, 0.75, 0.5, 0.25, 0.25, 0.25]])
        end_top_index = numpy.array([[3, 5, 5, 4, 4, 1]])  # best of each start, then second
        cls_logits = numpy.array([-1.0])

    window = of_beams(Outputs, 0, CONTEXT, 20, 30)
    assert window.null == -1.0
    assert window.spans == [
        Span(1.0, 0, 3), Span(1.0, 4, 11), Span(0.75, 0, 7), Span(0.625, 8, 11), Span(0.5, 4, 7)
    ]  # fmt: skip


# --- the journal ----------------------------------------------------------------------------------


def kept(path, run):
    with open_journal(path, run) as journal:
        return journal.done


def test_a_journal_gives_back_what_was_added(tmp_path):
    path, numbers = tmp_path / "state", [0.1 + 0.2, 1e-308, 5e-324, float("-inf")]
    with open_journal(path, {"task": "x"}) as journal:
        journal.add(1, numbers)
        journal.add(0, [{"a": [1]}])
    assert kept(path, {"task": "x"}) == {1: numbers, 0: [{"a": [1]}]}


def test_every_beginning_of_a_journal_is_a_journal(tmp_path):
    path = tmp_path / "state"
    with open_journal(path, {"task": "x"}) as journal:
        journal.add(0, [1])
        journal.add(1, [2])
    content = path.read_bytes()
    for n in range(len(content)):
        path.write_bytes(content[:n])
        lines = content[:n].count(b"\n")
        assert kept(path, {"task": "x"}) == {i: [i + 1] for i in range(max(lines - 1, 0))}
        assert path.read_bytes() == b"".join(content.splitlines(True)[: max(lines, 1)])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"format": "refimpl validate 1", "task": "y"}\n', "another run: task was 'y', is 'x'"),
        ("my notes\n", "expected a state of 'refimpl validate 1', got another file"),
        ("my notes", "expected a state of 'refimpl validate 1', got another file"),
        ('{"format": "refimpl validate 1", "task": "x"}\n{"batch": 0}\n', "line 2: expected"),
    ],
)
def test_another_file_is_refused_and_left_alone(tmp_path, content, said):
    path = tmp_path / "state"
    path.write_text(content)
    with pytest.raises(ValueError, match=said):
        kept(path, {"task": "x"})
    assert path.read_text() == content


def test_two_runs_cannot_write_to_one_journal(tmp_path):
    pytest.importorskip("fcntl")
    path = tmp_path / "state"
    with (
        open_journal(path, {}),
        pytest.raises(ValueError, match="another run is writing to it"),
        open_journal(path, {}),
    ):
        pass


def test_a_checkpoint_is_told_apart_by_small_files_and_by_weights(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"a": 1}))
    (tmp_path / "w").write_bytes(bytes(SMALL + 4096))
    first = folder_hash(tmp_path)
    assert folder_hash(tmp_path) == first
    (tmp_path / "config.json").write_text(json.dumps({"a": 2}))
    second = folder_hash(tmp_path)
    with (tmp_path / "w").open("r+b") as file:
        file.seek(SMALL + 4095)
        file.write(b"\x01")
    assert len({first, second, folder_hash(tmp_path)}) == 3
