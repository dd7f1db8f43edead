"""Searches weights that leave mistakes no place to hide: ``python tools/search_goldens.py``.

    python tools/search_goldens.py FAMILY CASE [--seeds 16] [--arithmetic bfloat16]

Makes the case with each seed, commits every mistake of the catalogue that can matter in it, and
prints how many the case notices, how far above rounding the weakest of them stands (in floors), and
how much rounding itself is blown up on the way (the largest relative error of a free run). The
first line is the best seed: the most mistakes, then the least rounding. It is to be written into
the case (``Case.seed``) by hand.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from golden.make.__main__ import FAMILIES
from refimpl.parity.faults import CATALOGUE
from refimpl.parity.strength.fixture import Fixture, read_fixture

RUNS = 8  # honest runs: enough to rank seeds


class Found(NamedTuple):
    """What the case is worth with one seed."""

    caught: int
    weakest: float
    rounding: float
    seed: int


def judge(fixture: Fixture, seed: int) -> Found:
    """Commit every mistake that can matter."""
    faults = [f for f in CATALOGUE.values() if not f.equivalent and not fixture.refusal(f)]
    limit = fixture.floors.multiplier
    units = [u for u in (fixture.look(fault).units for fault in faults) if u > limit]
    sizes = {n: numpy.abs(x).max(initial=0.0) for n, x in fixture.truth.items() if x.size}
    blown = [fixture.floors.free[n].worst / float(x) for n, x in sizes.items() if x]
    return Found(len(units), min(units, default=0.0), max(blown, default=0.0), seed)


def main() -> None:
    """Try seeds, and print them, the best first."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("family", choices=FAMILIES)
    parser.add_argument("case")
    parser.add_argument("--seeds", type=int, default=16)
    parser.add_argument("--arithmetic", default="bfloat16")
    options = parser.parse_args()
    module, found = FAMILIES[options.family], []
    case = module.CASES[options.case]
    for seed in range(options.seeds):
        module.CASES[options.case] = replace(case, seed=seed)
        with tempfile.TemporaryDirectory() as folder:
            module.make(Path(folder), options.case)
            fixture = read_fixture(Path(folder) / options.case, options.arithmetic, RUNS)
            found.append(judge(fixture, seed))
    for one in sorted(found, key=lambda one: (-one.caught, one.rounding)):
        print(
            f"seed {one.seed}: {one.caught} caught, the weakest at {one.weakest:.1f} floors; "
            f"rounding up to {one.rounding:.1e}"
        )


if __name__ == "__main__":
    main()
