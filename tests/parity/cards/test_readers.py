"""The readers in C++, Rust and JavaScript read goldens and cards as Python does, bit for bit."""

import shutil
import subprocess
from pathlib import Path

import numpy
import pytest
from safetensors.numpy import load_file

from refimpl.parity.cards import judge
from refimpl.parity.cards.card import cards_folder
from refimpl.parity.dumps import read_dump
from refimpl.parity.goldens import bundled

ROOT = Path(__file__).parents[3]
READERS = ROOT / "docs" / "readers"
PAGE = ROOT / "docs" / "porting.md"
FILES = [
    bundled() / "xmod" / "mixed_languages" / "golden.safetensors",
    bundled() / "xlm" / "lengths" / "golden.safetensors",
    bundled() / "xlm_roberta" / "model" / "model.safetensors",
    cards_folder() / "embedding.safetensors",
    cards_folder() / "mask_scores.safetensors",
]

# What each file holds, written again: every number as a double, under the same name.
CPP = """
#include "safetensors.hpp"
int main(int count, char** argv) {
  for (int i = 1; i + 1 < count; i += 2) {
    safetensors::Tensors found;
    for (auto& [name, x] : safetensors::read(argv[i])) {
      auto v = x.values();
      std::string bytes(reinterpret_cast<char*>(v.data()), 8 * v.size());
      found[name] = {"F64", x.shape, bytes};
    }
    safetensors::write(argv[i + 1], found);
  }
}
"""
RUST = """
mod safetensors;
use safetensors::{read, write, Tensor, Tensors};
fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    for pair in args.chunks(2) {
        let mut found = Tensors::new();
        for (name, x) in read(&pair[0]).unwrap() {
            let bytes = x.values().iter().flat_map(|v| v.to_le_bytes()).collect();
            found.insert(name, Tensor { dtype: "F64".into(), shape: x.shape, bytes });
        }
        write(&pair[1], &found).unwrap();
    }
    let _ = Tensor::of_f32;
}
"""
JAVASCRIPT = """
import { read, write } from "./safetensors.mjs";
const args = process.argv.slice(2);
for (let i = 0; i < args.length; i += 2) {
  const found = {};
  for (const [name, { shape, values }] of Object.entries(read(args[i])))
    found[name] = { dtype: "F64", shape, data: Float64Array.from(values) };
  write(args[i + 1], found);
}
"""
LANGUAGES = {
    "cpp": ("g++", ["-std=c++17", "-O0", "-Wall", "-Wextra", "-Werror"], CPP),
    "rs": ("rustc", ["--edition", "2021", "-D", "warnings"], RUST),
    "mjs": ("node", [], JAVASCRIPT),
}


def build(folder, language, source):
    """Make a source file a command; skip where its tool is not installed."""
    tool, options, _ = LANGUAGES[language]
    found = shutil.which(tool)
    if found is None:
        pytest.skip(f"{tool} is not installed")
    for file in READERS.iterdir():
        shutil.copy(file, folder)
    main = folder / f"main.{language}"
    main.write_text(source, encoding="utf-8")
    if language == "mjs":
        return [found, str(main)]
    binary = folder / "main"
    subprocess.run([found, *options, str(main), "-o", str(binary)], check=True, timeout=300)
    return [str(binary)]


@pytest.fixture(scope="module", params=LANGUAGES)
def copier(request, tmp_path_factory):
    """The program that writes again what it read, built once for a language."""
    folder = tmp_path_factory.mktemp(request.param)
    return build(folder, request.param, LANGUAGES[request.param][2])


def test_a_reader_gives_the_same_numbers(copier, tmp_path):
    pairs = [(file, tmp_path / f"{i}.safetensors") for i, file in enumerate(FILES)]
    subprocess.run([*copier, *(str(x) for pair in pairs for x in pair)], check=True, timeout=60)
    for file, again in pairs:
        truth, given = load_file(file), load_file(again)
        assert set(given) == set(truth)
        for name, x in truth.items():
            numpy.testing.assert_array_equal(given[name], x.astype(float), name, strict=True)
            bits = given[name].view(numpy.int64), x.astype(float).view(numpy.int64)
            assert (bits[0] == bits[1]).all(), name


def test_a_file_that_is_cut_off_is_refused(copier, tmp_path):
    whole = FILES[3].read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[: len(whole) // 4])
    (tmp_path / "short.safetensors").write_bytes(whole[:5])
    for name in ("cut", "short"):
        words = [*copier, str(tmp_path / f"{name}.safetensors"), str(tmp_path / "out")]
        done = subprocess.run(words, capture_output=True, timeout=60, check=False)
        assert done.returncode != 0


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_example_of_a_card_passes(tmp_path, language):
    source = (READERS / f"card.{language}").read_text("utf-8")
    dump = tmp_path / "dump.safetensors"
    command = build(tmp_path, language, source)
    subprocess.run([*command, str(cards_folder()), str(dump)], check=True, timeout=60)
    report = judge(read_dump(dump))
    assert report.held, report.sentence
    assert [card.name for card in report.judged] == ["softmax"]


@pytest.mark.parametrize("file", sorted(READERS.iterdir()), ids=lambda file: file.name)
def test_the_page_shows_the_file_as_it_is(file):
    text = file.read_text("utf-8")
    assert len(text.splitlines()) <= 90
    assert text in PAGE.read_text("utf-8")
