"""``python -m golden.make [FAMILY [CASE]]``: write all cases, a family's, or one."""

import sys
from pathlib import Path

import transformers

from golden.make import xlm, xlm_roberta, xlm_roberta_xl, xmod

FAMILIES = {
    "xlm": xlm,
    "xlm_roberta": xlm_roberta,
    "xlm_roberta_xl": xlm_roberta_xl,
    "xmod": xmod,
}

if __name__ == "__main__":
    if transformers.__version__ != "4.57.6":
        sys.exit(f"expected transformers 4.57.6, found {transformers.__version__}")
    root = Path(__file__).resolve().parents[1]
    family, only = [*sys.argv[1:], None, None][:2]
    for name, cases in FAMILIES.items():
        if family in (None, name):
            cases.make(root / name, only)
