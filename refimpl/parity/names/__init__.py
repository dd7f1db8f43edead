"""Whose name is whose: the taps of a model as other implementations call them and lay them out.

A canonical name is the path of a module in the published checkpoint, and one more word for what no
module outputs: ``roberta.encoder.layer.3.attention.self.scores``. ``maps/`` has a file for each
implementation that is known.
"""

from refimpl.parity.names.layouts import LAYOUTS, Plan, layout_of_shape, plan
from refimpl.parity.names.name_map import NameMap, Row, make_map, read_map
from refimpl.parity.names.resolving import Given, Naming, resolve
from refimpl.parity.names.sources import SOURCES, foreign_name, foreign_names

__all__ = [
    "LAYOUTS",
    "SOURCES",
    "Given",
    "NameMap",
    "Naming",
    "Plan",
    "Row",
    "foreign_name",
    "foreign_names",
    "layout_of_shape",
    "make_map",
    "plan",
    "read_map",
    "resolve",
]
