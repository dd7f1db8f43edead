"""Weights as an architecture sees them: a mapping by dotted names, brought to the device on use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, KeysView, Mapping
from threading import Lock
from typing import Any

from refimpl.backend import Array, Backend
from refimpl.checkpoints.folder import Tensors


class Weights(Mapping[str, Any]):
    """The tensors under one module path of a checkpoint, under their published names.

    ``w["query"]`` is the module below (again ``Weights``), ``w["query"]["weight"]`` its array, and
    ``w["query.weight"]`` the same array. Because the last names are the argument names of the ops,
    a module is called by unpacking it: ``linear(x, **w["query"])``. ``w.path`` is where it stands
    ("encoder.layer.0.attention.self"), the name under which its results are tapped.
    """

    def __init__(
        self, arrays: Mapping[str, Array], path: str = "", tree: dict[str, Any] | None = None
    ) -> None:
        self._arrays = arrays
        self._tree = nest(arrays) if tree is None else tree
        self._modules: dict[str, Weights] = {}  # those that were asked for
        self.path = path

    @property
    def arrays(self) -> Mapping[str, Array]:
        """The tensors of the whole checkpoint, under their full names."""
        return self._arrays

    def at(self, name: str) -> str:
        """Return the full path of ``name`` below this module."""
        return f"{self.path}.{name}" if self.path else name

    def __getitem__(self, name: str) -> Any:
        if name in self._modules:
            return self._modules[name]
        full = self.at(name)
        if full in self._arrays:
            return self._arrays[full]
        tree = self._tree
        for part in name.split("."):
            if part not in tree:
                raise KeyError(full)
            tree = tree[part]
        module = self._modules[name] = Weights(self._arrays, full, tree)
        return module

    def keys(self) -> KeysView[str]:
        """Return the names of the modules and tensors right below."""
        return self._tree.keys()

    def __iter__(self) -> Iterator[str]:
        return iter(self._tree)

    def __len__(self) -> int:
        return len(self._tree)


def nest(names: Iterable[str]) -> dict[str, Any]:
    """Return dotted names as nested dictionaries, empty at the leaves.

    >>> nest(["dense.weight", "dense.bias", "bias"])
    {'dense': {'weight': {}, 'bias': {}}, 'bias': {}}
    """
    tree: dict[str, Any] = {}
    for name in names:
        node = tree
        for part in name.split("."):
            node = node.setdefault(part, {})
    return tree


class DeviceTensors(Mapping[str, Array]):
    """Checkpoint tensors as arrays of one backend and dtype, each converted when first used."""

    def __init__(
        self, tensors: Tensors, file_names: Mapping[str, str], backend: Backend, dtype: Any
    ) -> None:
        self.tensors = tensors
        self.file_names = file_names
        self.backend = backend
        self.dtype = dtype
        self._arrays: dict[str, Array] = {}
        self._converting = Lock()  # several threads may ask for the same tensor

    def in_dtype(self, dtype: str) -> DeviceTensors:
        """Return the same tensors in another dtype, each converted from its file."""
        number = self.backend.dtype(dtype)
        return DeviceTensors(self.tensors, self.file_names, self.backend, number)

    def __getitem__(self, name: str) -> Array:
        file_name = self.file_names[name]  # tied tensors are one array
        if file_name not in self._arrays:
            with self._converting:
                if file_name not in self._arrays:
                    tensor = self.tensors[file_name]
                    self._arrays[file_name] = self.backend.asarray(tensor, self.dtype)
        return self._arrays[file_name]

    def __contains__(self, name: object) -> bool:
        return name in self.file_names

    def __iter__(self) -> Iterator[str]:
        return iter(self.file_names)

    def __len__(self) -> int:
        return len(self.file_names)
