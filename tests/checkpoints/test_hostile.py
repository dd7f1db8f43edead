"""Files that are out to harm: each is refused, or read right, and nothing in it ever runs.

Set against them: thousands of files broken at random (``hostile.py``), and attacks with an aim
(``attacks.py``), read in a process of its own (``hostile_process.py``).
"""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.checkpoints import hostile
from tests.checkpoints.attacks import ATTACKS, CANARY, Attack

pytest.importorskip("resource")
pytestmark = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="memory is counted as Linux tells it"
)

ROOM = 200 * 2**20  # bytes, beside the size of the files
SECONDS = 5  # of computing, for any one file
FEW, ALL = 170, 1120  # corruptions of each of nine formats: 1530, and 10,080
CODE = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def process(tmp_path_factory):
    """A function that has a request worked on by the other process, in a folder of its own."""
    folder = tmp_path_factory.mktemp("hostile")
    command = [sys.executable, "-W", "error", "-m", "tests.checkpoints.hostile_process"]
    environment = {"PYTHONPATH": str(CODE), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [*command, str(folder / "warm")], cwd=folder, env=environment, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as other:  # fmt: skip
        assert other.stdout.readline() == "ready\n"

        def ask(**request):
            other.stdin.write(json.dumps({"folder": str(folder / "files"), **request}) + "\n")
            other.stdin.flush()
            answer = json.loads(other.stdout.readline())
            assert not (folder / CANARY).exists()
            assert not (folder / "files" / CANARY).exists()
            return answer

        ask.folder = folder / "files"
        yield ask
        other.stdin.close()


def check_costs(answer):
    assert answer["did"] == []
    assert answer["seconds"] < SECONDS
    assert answer["memory"] < ROOM


# --- at random ------------------------------------------------------------------------------------

every_format = pytest.mark.parametrize("form", [form.name for form in hostile.FORMATS])


def check_random(process, form, seeds):
    answer = process(format=form, seeds=seeds, kind="model" if form == "config" else "tensors")
    assert answer["wrong"] == []
    check_costs(answer)
    assert sum(answer[outcome] for outcome in hostile.OUTCOMES) == len(range(*seeds))
    # Broken files are mostly refused, yet not all: else nothing would have been read at all.
    assert answer["refused"] > len(range(*seeds)) / 4
    assert answer["true"] + answer["witnessed"] + answer["near"] > 0


@every_format
def test_files_broken_at_random(process, form):
    check_random(process, form, [0, FEW])


@pytest.mark.large
@every_format
def test_ten_thousand_files_broken_at_random(process, form):
    assert len(hostile.FORMATS) * ALL >= 10_000
    check_random(process, form, [FEW, FEW + ALL])


def test_corruptions_are_the_same_every_time():
    form = hostile.FORMATS[0]
    assert hostile.corrupted(form, 3) == hostile.corrupted(form, 3)
    assert len({str(hostile.corrupted(form, seed).files) for seed in range(50)}) > 45


# --- with an aim ----------------------------------------------------------------------------------


every_attack = [
    pytest.param(name, id=name, marks=[pytest.mark.large] if attack.slow else [])
    for name, attack in ATTACKS.items()
]


@pytest.mark.parametrize("name", every_attack)
def test_attack(process, name):
    attack: Attack = ATTACKS[name]
    hostile.write(attack.files(), process.folder)
    answer = process(kind="model" if attack.model else "tensors")
    kind, _, message = answer["error"].partition(": ")
    assert kind == "CheckpointError", answer["error"][:500]
    assert message.startswith(str(process.folder))
    assert re.search(attack.says, message), message[:500]
    assert len(message) < 2000
    check_costs(answer)


def test_what_a_program_does_is_noticed(process):
    """The watch itself: a file that a reader writes, a program that it starts."""
    hostile.write({"x": b""}, process.folder)
    program = (
        "import os, sys; sys.argv = ['', '.']\n"
        "from tests.checkpoints.hostile_process import Watch\n"
        "watch = Watch('tensors')\n"
        "watch(lambda x: (open(x, 'w'), os.system('true'), eval('1')))('written')\n"
        "print([event.split()[0] for event in watch.events])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True,
        cwd=process.folder, env={"PYTHONPATH": str(CODE), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    for event in ("open", "os.system", "compile", "exec"):
        assert f"'{event}'" in done.stdout
