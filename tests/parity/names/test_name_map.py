"""Map files are read whole or refused with one line that says why."""

import json

import pytest

from refimpl.errors import CheckpointError
from refimpl.parity.names import SOURCES, make_map, read_map
from refimpl.parity.names.sources import known_map

QUERY = "encoder.layer.{i}.attention.self.query"


def written(folder, text, name="own.toml"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_toml_and_json_say_the_same(tmp_path):
    toml = written(tmp_path, f'"{QUERY}" = {{name = "h.{{i}}.q", layout = "heads"}}\n')
    text = json.dumps({QUERY: {"name": "h.{i}.q", "layout": "heads"}})
    assert read_map(toml) == read_map(written(tmp_path, text, "own.json"))


def test_names_without_quotes_are_the_same_names(tmp_path):
    path = written(tmp_path, 'lm_head.dense = "a"\nlm_head.layer_norm = {name = "b"}\n')
    assert [(row.tap, row.theirs) for row in read_map(path).rows] == [
        ("lm_head.dense", "a"),
        ("lm_head.layer_norm", "b"),
    ]


@pytest.mark.parametrize("source", SOURCES)
def test_built_in_maps_can_be_read(source):
    names = known_map(source)
    assert names.rows
    assert names.about


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({"a": 3}, "a: expected a name, a table of .*, got name = 3"),
        ({"a": ""}, "a: expected a name, .* got name = ''"),
        ({"a": {"name": "b", "axis": 1}}, "a: .* got axis = 1"),
        ({"a": {"name": "b", "layout": "odd"}}, "a: layout: expected one of same, .* got 'odd'"),
        ({"a": {"name": "b", "only": ["bert"]}}, "a: only: expected some of xlm, .* got 'bert'"),
        ({QUERY: "q"}, r"query: expected \{i\} on both sides or on none, got 'q'"),
        ({"a": "h.{i}.q"}, r"a: expected \{i\} on both sides or on none"),
        ({"a.{k}": "h.{k}"}, r"expected \{i\} or \{language\}, got \{k\}"),
        ({"map": {"colour": "red"}}, "map: expected a table of about, .*"),
        ({"map": 3}, "map: expected a table"),
        ({"map": {"endings": {"x": 3}}, "a": "b<x>"}, "map: endings: expected lists of names"),
    ],
)
def test_what_a_map_cannot_say(entries, said):
    with pytest.raises(ValueError, match=said):
        make_map(entries)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("broken.toml", "= ="),
        ("broken.json", "{"),
        ("list.json", "[]"),
        ("deep.json", "[" * 100_000),
        ("wrong.toml", '"a" = 3'),
    ],
)
def test_a_file_that_is_no_map(tmp_path, name, text):
    with pytest.raises(CheckpointError, match=name):
        read_map(written(tmp_path, text, name))


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(CheckpointError, match=r"own\.toml: no such file"):
        read_map(tmp_path / "own.toml")
    with pytest.raises(CheckpointError, match="expected a file of bytes"):
        read_map(tmp_path)
    bits = tmp_path / "bits.toml"
    bits.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CheckpointError, match=r"bits\.toml"):
        read_map(bits)
    large = tmp_path / "large.json"
    large.write_bytes(b" " * (1 << 22) + b"{}")
    with pytest.raises(CheckpointError, match="at most"):
        read_map(large)
