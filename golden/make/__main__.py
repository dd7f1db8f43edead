"""``python -m golden.make [CASE]``: write every case, or one, from the original implementation."""

import sys
from pathlib import Path

import transformers

from golden.make import xlm_roberta

if __name__ == "__main__":
    if transformers.__version__ != "4.57.6":
        sys.exit(f"expected transformers 4.57.6, found {transformers.__version__}")
    root = Path(__file__).resolve().parents[1]
    xlm_roberta.make(root / "xlm_roberta", *sys.argv[1:2])
