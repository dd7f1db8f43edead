"""Labels of data and labels of a model: one name for both, or a clear error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Labels:
    """The labels of a model, by number, and what the data calls them.

    ``names`` is the config's ``id2label``, ``count`` how many labels the head has, ``renamed``
    says which label of the model (its name or number) a label of the data is.
    """

    def __init__(
        self, names: Mapping[str, Any] | None, count: int, renamed: Mapping[str, str]
    ) -> None:
        named = {str(i): f"LABEL_{i}" for i in range(count)} if names is None else names
        if set(named) != {str(i) for i in range(count)}:
            raise ValueError(f"id2label: expected the keys 0 to {count - 1}, got {list(named)}")
        self.names = tuple(str(named[str(i)]) for i in range(count))
        if len(set(self.names)) != count:
            raise ValueError(f"id2label: expected {count} different names, got {self.names}")
        self._numbers = {name: i for i, name in enumerate(self.names)}
        self._renamed = {theirs: self._own(name) for theirs, name in renamed.items()}

    def number(self, where: str, label: Any) -> int:
        """Return the number of a label of the data.

        An integer is the model's number. A name is looked up among those that were renamed, then
        among the model's as it is, then whatever its case. Raises ``ValueError`` for any other.
        """
        if isinstance(label, int) and not isinstance(label, bool) and 0 <= label < len(self.names):
            return label
        if isinstance(label, str):
            if label in self._renamed:
                return self._renamed[label]
            if label in self._numbers:
                return self._numbers[label]
            alike = [i for i, n in enumerate(self.names) if n.casefold() == label.casefold()]
            if len(alike) == 1:
                return alike[0]
        raise ValueError(
            f"{where}: expected a label of the model ({', '.join(self.names)}), got {label!r}; "
            "--labels THEIRS=OURS says which it is"
        )

    def _own(self, name: str) -> int:
        if name in self._numbers:
            return self._numbers[name]
        if name.isdecimal() and int(name) < len(self.names):
            return int(name)
        raise ValueError(f"labels: expected one of {', '.join(self.names)}, got {name!r}")
