"""Dumps: what an implementation computed in one call, as files of many formats."""

from refimpl.parity.dumps.dump import Dump
from refimpl.parity.dumps.exporting import FORMATS, export_dump
from refimpl.parity.dumps.own import list_dump, write_dump
from refimpl.parity.dumps.reading import read_dump

__all__ = ["FORMATS", "Dump", "export_dump", "list_dump", "read_dump", "write_dump"]
