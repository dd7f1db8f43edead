"""Generation over language models that are tables: greedy, beams, sampling, and every option."""

import itertools
import math
import re

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from refimpl.models.generation import (
    Settings,
    draw,
    generate,
    keep_top_k,
    keep_top_p,
    log_softmax,
    penalize_repetition,
    pick,
    top,
)
from tests.compare import assert_same, assert_ulps

V = 5
some = settings(max_examples=50)
quarters = st.integers(-20, 20).map(lambda i: i / 4)
tables = arrays(float, (V, V), elements=quarters)
prompts = arrays(
    "int64", st.tuples(st.integers(1, 3), st.integers(1, 3)), elements=st.integers(0, 4)
)


class Table:
    """A language model whose next token hangs on the last one only.

    It keeps what it was asked, as a model with a cache does: a row must go on from the row that
    it was told to go on from.
    """

    def __init__(self, table):
        self.table, self.kept, self.lengths = numpy.asarray(table, float), None, []

    def __call__(self, ids):
        if self.kept is not None:
            assert_same(ids[:, :-1], self.kept)
        self.kept = ids.copy()
        self.lengths.append(ids.shape[1])
        return self.table[ids[:, -1]]

    def reorder(self, rows):
        assert rows.shape == self.kept.shape[:1]
        self.kept = self.kept[rows]


def run(table, prompt, **options):
    return generate(Table(table), numpy.asarray(prompt), Settings(**options))


def log_probabilities(table):
    """Return the logarithm of softmax of each row, by mathematical functions of one number."""
    rows = [[x - math.log(math.fsum(map(math.exp, row))) for x in row] for row in table.tolist()]
    return numpy.asarray(rows)


# --- greedy ---------------------------------------------------------------------------------------


def by_hand(table, row, length, eos):
    """Return a row with the best next token put behind it, again and again."""
    row = list(row)
    while len(row) < length and row[-1] not in eos:
        row.append(int(numpy.argmax(table[row[-1]])))
    return row


@some
@given(tables, prompts, st.integers(1, 6), st.sets(st.integers(0, 4), max_size=2))
def test_greedy_takes_the_best_until_the_end(table, prompt, more, eos):
    length = prompt.shape[1] + more
    out = run(table, prompt, max_length=length, eos_token_id=tuple(eos), pad_token_id=3)
    rows = []
    for row in prompt.tolist():
        first = int(numpy.argmax(table[row[-1]]))  # an end token in the prompt ends nothing
        tail = by_hand(table, [first], more, eos)
        rows.append(row + tail)
    longest = max(map(len, rows))
    assert_same(out.sequences, [row + [3] * (longest - len(row)) for row in rows])
    assert out.sequences_scores is None


def test_it_stops_when_all_rows_have_ended():
    table = Table(
        [[0, 9, 0, 0, 0], [0, 0, 9, 0, 0], [0, 0, 0, 9, 0], [9, 0, 0, 0, 0], [9, 0, 0, 0, 0]]
    )
    options = Settings(max_length=9, eos_token_id=(2,), pad_token_id=4)
    out = generate(table, numpy.asarray([[0], [1], [3]]), options)
    assert_same(out.sequences, [[0, 1, 2, 4], [1, 2, 4, 4], [3, 0, 1, 2]])
    assert table.lengths == [1, 2, 3]


def test_of_equals_the_first_is_taken():
    assert_same(run(numpy.zeros((V, V)), [[4]], max_length=3).sequences, [[4, 0, 0]])


@pytest.mark.parametrize("beams", [1, 3])
def test_an_end_token_comes_only_behind_min_length(beams):
    # Token 2 is always best, and the end.
    table = numpy.tile([0.0, 1.0, 9.0, 0.5, 0.0], (V, 1))
    options = {"max_length": 8, "eos_token_id": (2,), "num_beams": beams}
    assert_same(run(table, [[4]], **options).sequences, [[4, 2]])
    out = run(table, [[4]], min_length=4, **options).sequences
    assert_same(out, [[4, 1, 1, 1, 2]])
    assert_same(run(table, [[4]], min_length=8, **options).sequences, [[4, *[1] * 7]])


@pytest.mark.parametrize("beams", [1, 3])
def test_all_end_tokens_are_forbidden_until_min_length(beams):
    table = numpy.tile([0.0, 1.0, 9.0, 8.0, 0.0], (V, 1))
    options = {"max_length": 4, "min_length": 4, "eos_token_id": (2, 3), "num_beams": beams}
    assert_same(run(table, [[4]], **options).sequences, [[4, 1, 1, 1]])


def test_a_large_penalty_lets_no_token_come_twice():
    table = numpy.tile([5.0, 4.0, 3.0, 2.0, 1.0], (V, 1))
    out = run(table, [[3]], max_length=5, repetition_penalty=1e6)
    assert_same(out.sequences, [[3, 0, 1, 2, 4]])
    out = run(table - 9, [[3]], max_length=5, repetition_penalty=1e6)  # negative scores, too
    assert_same(out.sequences, [[3, 0, 1, 2, 4]])


@given(tables, prompts)
def test_a_penalty_of_1_is_none(table, prompt):
    options = {"max_length": 6, "num_beams": 2}
    plain = run(table, prompt, **options)
    assert_same(run(table, prompt, repetition_penalty=1.0, **options).sequences, plain.sequences)


@given(
    arrays(float, (3, V), elements=quarters),
    arrays("int64", (3, 4), elements=st.integers(0, 4)),
    st.sampled_from([0.5, 2.0, 4.0]),
)
def test_the_penalty_of_a_token_that_came(scores, ids, penalty):
    before = scores.copy()
    out = penalize_repetition(scores, ids, penalty)
    for (row, token), x in numpy.ndenumerate(before):
        expected = (x * penalty if x < 0 else x / penalty) if token in ids[row] else x
        assert out[row, token] == expected
    assert_same(scores, before)


# --- beams ----------------------------------------------------------------------------------------


@some
@given(tables, prompts, st.integers(1, 5))
def test_one_beam_is_greedy(table, prompt, more):
    length = prompt.shape[1] + more
    options = {"max_length": length, "eos_token_id": (2,), "pad_token_id": 3}
    assert_same(
        run(table, prompt, num_beams=1, **options).sequences,
        run(table, prompt, **options).sequences,
    )


def cut(row, start, eos):
    """Return what was generated: up to the first end token, padding left out."""
    tail = row[start:]
    ends = [i for i, token in enumerate(tail) if token in eos]
    return tail[: ends[0] + 1] if ends else tail


beams = st.integers(2, 4).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n)))


@some
@given(
    tables,
    prompts,
    st.integers(1, 5),
    beams,
    st.sampled_from([0.0, 0.5, 1.0, 2.0, -1.0]),
    st.sampled_from([True, False, "never"]),
)
def test_scores_are_those_of_the_sequences_and_do_not_rise(
    table, prompt, more, counts, penalty, early_stopping
):
    n, keep = counts
    (batch, start), eos = prompt.shape, (2, 4)
    out = run(
        table,
        prompt,
        max_length=start + more,
        num_beams=n,
        num_return_sequences=keep,
        length_penalty=penalty,
        early_stopping=early_stopping,
        eos_token_id=eos,
        pad_token_id=3,
    )
    assert out.sequences.shape[0] == batch * keep
    assert out.sequences_scores.shape == (batch * keep,)
    assert_same(out.sequences[:, :start], prompt.repeat(keep, axis=0))
    of_next = log_probabilities(table)
    texts = []
    for row, score in zip(out.sequences.tolist(), out.sequences_scores, strict=True):
        if score < -1e8:
            continue  # fewer texts than were asked for
        tail = cut(row, start, eos)
        steps = [of_next[a, b] for a, b in itertools.pairwise([row[start - 1], *tail])]
        expected = math.fsum(steps) / len(tail) ** penalty
        # Logarithms of numbers up to 10 and ten times as much in sums of five: a few roundings
        # each, and those of the power.
        largest = max(1.0, abs(math.fsum(steps)), abs(expected))
        assert_ulps(numpy.asarray(score), numpy.asarray(expected), ulps=16, of=largest)
        assert row[start + len(tail) :] == [3] * (len(row) - start - len(tail))
        texts.append((tuple(row[:start]), tuple(tail)))
    scores = out.sequences_scores.reshape(batch, keep)
    assert (scores[:, :-1] >= scores[:, 1:]).all()
    for i in range(batch):
        rows = out.sequences[i * keep : (i + 1) * keep].tolist()
        real = [r for r, s in zip(rows, scores[i], strict=True) if s > -1e8]
        assert len({tuple(r) for r in real}) == len(real)  # no text comes twice


def every_text(table, start, steps, eos):
    """Yield every continuation of a token and its log-probability."""
    of_next = log_probabilities(table)
    open_ = [((), 0.0)]
    for step in range(1, steps + 1):
        longer = []
        for tail, score in open_:
            for token in range(V):
                x = ((*tail, token), score + of_next[(tail or (start,))[-1], token])
                if token in eos or step == steps:
                    yield x
                else:
                    longer.append(x)
        open_ = longer


@settings(max_examples=25)
@given(
    arrays(float, (V, V), elements=st.floats(-5, 5)),
    st.sampled_from([0.0, 0.5, 1.0, 2.0]),
)
def test_enough_beams_find_the_best_of_all_texts(table, penalty):
    options = {
        "max_length": 4,
        "num_beams": 25,
        "num_return_sequences": 5,
        "eos_token_id": (2,),
        "length_penalty": penalty,
        "early_stopping": "never",
    }
    out = run(table, [[0]], **options)
    every = sorted(every_text(table, 0, 3, (2,)), key=lambda x: -x[1] / len(x[0]) ** penalty)
    scores = numpy.asarray([score / len(tail) ** penalty for tail, score in every[:5]])
    largest = max(1.0, numpy.abs(scores).max() * 3)
    assert_ulps(out.sequences_scores, scores, ulps=16, of=largest)
    if every[0][1] / len(every[0][0]) ** penalty > scores[1] + 1e-9:  # no tie
        assert tuple(cut(out.sequences[0].tolist(), 1, (2,))) == every[0][0]


def test_a_beam_that_starts_worse_may_end_better():
    # 0 -> 1 (0.6) -> anything (0.2 each); 0 -> 3 (0.4) -> 4 (nearly 1).
    table = numpy.log([[1e-9, 0.6, 1e-9, 0.4, 1e-9], [0.2] * 5, [0.2] * 5,
                       [1e-9, 1e-9, 1e-9, 1e-9, 1.0], [0.2] * 5])  # fmt: skip
    assert_same(run(table, [[0]], max_length=3).sequences, [[0, 1, 0]])
    assert_same(run(table, [[0]], max_length=3, num_beams=2).sequences, [[0, 3, 4]])


def short_or_long():
    """Return a table where ending at once has 0.4, and three sure steps after a 0.6 have 0.6."""
    low = 1e-12
    return numpy.log([[low, 0.6, 0.4, low, low], [low, low, low, 1.0, low], [0.2] * 5,
                      [low, low, low, low, 1.0], [low, low, 1.0, low, low]])  # fmt: skip


@pytest.mark.parametrize(
    ("penalty", "expected"), [(1.0, [0, 1, 3, 4, 2]), (0.0, [0, 1, 3, 4, 2]), (-3.0, [0, 2])]
)
def test_a_negative_length_penalty_favours_short_texts(penalty, expected):
    options = {"max_length": 6, "num_beams": 2, "eos_token_id": (2,), "length_penalty": penalty}
    out = run(short_or_long(), [[0]], **options)
    assert [i for i in out.sequences[0].tolist() if i] == expected[1:]


def probabilities(**rows):
    """Return a table of the rows r0, r1, ...; one that is not given holds all tokens alike."""
    table = numpy.full((V, V), 0.2)
    for name, row in rows.items():
        table[int(name[1:])] = numpy.maximum(row, 1e-12)
    return numpy.log(table)


def test_early_stopping_is_content_with_as_many_texts_as_there_are_beams():
    # 0 -> the end, or 1; 1 -> the end, or 1 again. Long texts are favoured.
    table = probabilities(r0=[0, 0.4, 0.3, 0.3, 0], r1=[0, 0.5, 0.5, 0, 0])
    options = {"max_length": 8, "num_beams": 2, "eos_token_id": (2, 3), "length_penalty": 2.0}
    calls = {}
    for early_stopping in (True, False, "never"):
        model = Table(table)
        generate(model, numpy.asarray([[0]]), Settings(early_stopping=early_stopping, **options))
        calls[early_stopping] = len(model.lengths)
    assert calls == {True: 2, False: 7, "never": 7}


def test_without_early_stopping_the_search_ends_where_nothing_better_is_in_sight():
    # 0 -> 1 and the end are sure; what goes on is next to impossible.
    table = probabilities(r0=[0, 0.5, 0.5, 0, 0], r1=[0, 0, 1.0, 0, 0])
    options = {"max_length": 8, "num_beams": 2, "eos_token_id": (2,), "length_penalty": 3.0}
    calls = {}
    for early_stopping in (True, False, "never"):
        model = Table(table)
        generate(model, numpy.asarray([[0]]), Settings(early_stopping=early_stopping, **options))
        calls[early_stopping] = len(model.lengths)
    # "never" hopes that a text of seven tokens makes up for what is next to impossible.
    assert calls[True] == calls[False] == 2
    assert calls["never"] > 2


def test_an_end_that_is_not_among_the_best_does_not_count():
    # Of 0.5, 0.3 and an end of 0.2 two beams see the first two, though 0.2 is more than what
    # becomes of them.
    table = probabilities(r0=[0, 0.5, 0.2, 0.3, 0])
    options = {"max_length": 3, "num_beams": 2, "eos_token_id": (2,), "length_penalty": 0.0}
    assert_same(run(table, [[0]], **options).sequences, [[0, 1, 0]])


def test_an_end_takes_no_beam_from_the_others():
    table = probabilities(r0=[0, 0.3, 0.5, 0.2, 0], r3=[0, 0, 0, 0, 1.0])
    out = run(
        table,
        [[0]],
        max_length=3,
        num_beams=2,
        num_return_sequences=2,
        eos_token_id=(2,),
        length_penalty=0.0,
        pad_token_id=4,
    )
    assert_same(out.sequences, [[0, 2, 4], [0, 3, 4]])


def test_many_ends_take_no_beam_from_the_others():
    # Both beams (1 and 4) may end in two ways, each better than going on with 0.
    both = [0.2, 0, 0.4, 0.4, 0]
    table = probabilities(r0=[0, 0.5, 0, 0, 0.5], r1=both, r4=both)
    options = {"max_length": 4, "num_beams": 2, "eos_token_id": (2, 3), "length_penalty": 9.0}
    out = run(table, [[0]], early_stopping="never", **options)
    assert_same(out.sequences, [[0, 1, 0, 1]])


@given(tables, st.integers(2, 4))
def test_a_batch_of_beams_is_its_texts_one_by_one(table, n):
    prompt = numpy.asarray([[0, 1], [3, 4], [1, 1]])
    options = {"max_length": 6, "num_beams": n, "eos_token_id": (2,), "num_return_sequences": 2}
    together = run(table, prompt, **options)
    alone = [run(table, row[None], **options) for row in prompt]
    assert_same(together.sequences_scores, numpy.concatenate([x.sequences_scores for x in alone]))
    for i, x in enumerate(alone):
        rows = together.sequences[2 * i : 2 * i + 2]
        width = x.sequences.shape[1]
        assert_same(rows[:, :width], x.sequences)
        assert not rows[:, width:].any()  # padding


# --- sampling -------------------------------------------------------------------------------------

SAMPLE = {"do_sample": True, "top_k": 0}


@some
@given(tables, prompts, st.integers(0, 99))
def test_a_seed_gives_the_same_texts_again(table, prompt, seed):
    options = {"max_length": prompt.shape[1] + 4, "num_return_sequences": 2, "seed": seed, **SAMPLE}
    assert_same(run(table, prompt, **options).sequences, run(table, prompt, **options).sequences)


def test_another_seed_gives_other_texts():
    texts = {run(numpy.zeros((V, V)), [[0]], max_length=9, seed=i, **SAMPLE).sequences.tobytes()
             for i in range(20)}  # fmt: skip
    assert len(texts) == 20
    without = {run(numpy.zeros((V, V)), [[0]], max_length=30, **SAMPLE).sequences.tobytes()
               for _ in range(5)}  # fmt: skip
    assert len(without) == 5


distinct = st.permutations([-4.0, -1.5, 0.0, 0.25, 3.0])
sharp = st.lists(distinct, min_size=V, max_size=V).map(numpy.asarray)


@some
@given(sharp, prompts, st.integers(0, 99))
@pytest.mark.parametrize(
    "options", [{"temperature": 1e-4}, {"top_k": 1}, {"top_p": 1e-9}, {"top_k": 1, "top_p": 0.5}]
)
def test_what_leaves_one_choice_is_greedy(options, table, prompt, seed):
    length = {"max_length": prompt.shape[1] + 4, "eos_token_id": (2,), "pad_token_id": 3}
    drawn = run(table, prompt, **{**SAMPLE, **length, **options}, seed=seed)
    assert_same(drawn.sequences, run(table, prompt, **length).sequences)
    assert drawn.sequences_scores is None


def test_tokens_come_as_often_as_they_are_probable():
    probabilities = numpy.asarray([0.5, 0.25, 0.125, 0.125, 0.0])
    with numpy.errstate(divide="ignore"):
        scores = numpy.log(probabilities)
    n = 40_000
    random = numpy.random.default_rng(0)
    drawn = draw(numpy.tile(scores, (n, 1)), Settings(**SAMPLE), random)
    counts = numpy.bincount(drawn, minlength=V)
    deviations = numpy.sqrt(n * probabilities * (1 - probabilities))
    assert (numpy.abs(counts - n * probabilities) <= 4 * deviations).all()
    assert counts[4] == 0


def test_temperature_divides_the_scores():
    scores = numpy.asarray([[0.0, 1.0, -2.0, 0.5, 3.0]] * 1000)
    hot = draw(scores, Settings(**SAMPLE, temperature=2.0), numpy.random.default_rng(1))
    same = draw(scores / 2, Settings(**SAMPLE), numpy.random.default_rng(1))
    assert_same(hot, same)


def test_every_copy_of_a_prompt_is_drawn_by_itself():
    options = {"max_length": 12, "num_return_sequences": 3, "seed": 0, **SAMPLE}
    out = run(numpy.zeros((V, V)), [[0, 1], [2, 3]], **options).sequences
    assert_same(out[:, :2], [[0, 1]] * 3 + [[2, 3]] * 3)
    assert len({row.tobytes() for row in out[:, 2:]}) == 6


# --- what is left to choose from ------------------------------------------------------------------


@pytest.mark.parametrize(("k", "kept"), [(0, 5), (1, 1), (2, 3), (3, 3), (4, 4), (5, 5), (50, 5)])
def test_top_k_keeps_what_equals_the_last(k, kept):
    scores = numpy.asarray([[1.0, 4.0, 2.0, 2.0, 0.0]])
    out = keep_top_k(scores, k)
    assert numpy.isfinite(out).sum() == kept
    assert_same(out[numpy.isfinite(out)], scores[numpy.isfinite(out)])


@pytest.mark.parametrize(
    ("p", "kept"), [(1.0, [0, 1, 2, 3]), (0.9, [0, 1, 2]), (0.79, [0, 1]), (0.5, [0]), (1e-9, [0])]
)
def test_top_p_keeps_the_fewest_that_have_p_together(p, kept):
    scores = numpy.log(numpy.asarray([[0.5, 0.3, 0.15, 0.05]]))
    out = keep_top_p(scores, p)
    assert numpy.flatnonzero(numpy.isfinite(out)).tolist() == kept
    shuffled = keep_top_p(scores[:, [2, 0, 3, 1]], p)
    assert_same(shuffled, out[:, [2, 0, 3, 1]])


@given(arrays(float, (3, V), elements=st.floats(-30, 30)), st.floats(0.01, 1.0))
def test_top_p_keeps_at_least_p(scores, p):
    out = keep_top_p(scores, p)
    probabilities = numpy.exp(log_softmax(scores))
    for row, kept in zip(probabilities, numpy.isfinite(out), strict=True):
        # Sums of five numbers below 1 round, and so do those that were compared.
        assert math.fsum(row[kept]) >= p - 16 * numpy.spacing(1.0)
        if not kept.all():
            assert row[kept].min() >= row[~kept].max()
            assert math.fsum(row[kept]) - row[kept].min() < p + 16 * numpy.spacing(1.0)


@given(arrays(float, (3, V), elements=st.floats(-1e3, 1e3)))
def test_log_softmax_of_the_host_is_that_of_the_operations(scores):
    from refimpl import ops

    assert_same(log_softmax(scores), ops.log_softmax(scores))


def test_the_largest_and_what_stands_at_their_places():
    x = numpy.asarray([[1.0, 3.0, 3.0, 2.0], [0.0, -1.0, 5.0, 5.0]])
    assert_same(top(x, 3), [[1, 2, 3], [2, 3, 0]])
    assert_same(pick(x, top(x, 2)), [[3.0, 3.0], [5.0, 5.0]])
    deep = numpy.arange(24).reshape(2, 4, 3)
    assert_same(
        pick(deep, numpy.asarray([[3, 0], [1, 1]])), deep[[[0, 0], [1, 1]], [[3, 0], [1, 1]]]
    )


# --- options that cannot be -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_beams": 0}, "num_beams: expected at least 1, got 0"),
        ({"num_beams": 2.0}, "num_beams: expected int, got 2.0"),
        ({"num_beams": True}, "num_beams: expected int, got True"),
        ({"num_return_sequences": 0}, "num_return_sequences: expected at least 1, got 0"),
        ({"num_return_sequences": 2},
         "num_return_sequences: expected at most num_beams (1) without sampling, got 2"),
        ({"num_return_sequences": 4, "num_beams": 3},
         "num_return_sequences: expected at most num_beams (3) without sampling, got 4"),
        ({"num_beams": 2, "do_sample": True}, "num_beams: expected 1 with do_sample, got 2"),
        ({"do_sample": "yes"}, "do_sample: expected bool, got 'yes'"),
        ({"temperature": 0.0}, "temperature: expected a number above 0, got 0.0"),
        ({"temperature": -1.0}, "temperature: expected a number above 0, got -1.0"),
        ({"temperature": "hot"}, "temperature: expected float, got 'hot'"),
        ({"top_k": -1}, "top_k: expected 0 (off) or more, got -1"),
        ({"top_k": 1.5}, "top_k: expected int, got 1.5"),
        ({"top_p": 0.0}, "top_p: expected a number above 0, up to 1, got 0.0"),
        ({"top_p": 1.5}, "top_p: expected a number above 0, up to 1, got 1.5"),
        ({"repetition_penalty": 0.0}, "repetition_penalty: expected a number above 0, got 0.0"),
        ({"early_stopping": "always"},
         "early_stopping: expected True, False or 'never', got 'always'"),
        ({"early_stopping": None}, "early_stopping: expected bool | str, got None"),
        ({"length_penalty": None}, "length_penalty: expected float, got None"),
        ({"max_length": "9"}, "max_length: expected int, got '9'"),
        ({"min_length": 1.0}, "min_length: expected int, got 1.0"),
        ({"seed": "x"}, "seed: expected int | None, got 'x'"),
    ],
)  # fmt: skip
def test_an_option_that_cannot_be(options, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Settings(**options)


@pytest.mark.parametrize("length", [0, 1, 3])
@pytest.mark.parametrize("num_beams", [1, 2])
def test_there_must_be_room_behind_the_prompt(length, num_beams):
    message = f"max_length: expected more than the prompt's 3 tokens, got {length}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        run(numpy.zeros((V, V)), [[1, 2, 3]], max_length=length, num_beams=num_beams)


@pytest.mark.oracle
def test_defaults_are_the_originals():
    transformers = pytest.importorskip("transformers")
    original, ours = transformers.GenerationConfig(), Settings()
    for name in Settings.__annotations__:
        if name not in ("seed", "eos_token_id", "pad_token_id"):
            assert getattr(ours, name) == getattr(original, name), name
