"""Parameters of foreign models as plain arrays by name, each of which must find its place."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxff.types import Array, Params

__all__ = ["Reader", "require", "to_params"]


class Reader:
    """Arrays by name, each to be used.

    Attributes:
        arrays: All of them.
        what: What they should be, for messages.
        left: Names not used so far.
    """

    def __init__(self, arrays: Mapping[str, Any], what: str):
        self.arrays = {name: np.asarray(value) for name, value in arrays.items()}
        self.what = what
        self.left = set(self.arrays)

    def __contains__(self, name: str) -> bool:
        return name in self.arrays

    def take(self, name: str) -> np.ndarray:
        """The array of this name.

        Raises:
            ValueError: If there is none.
        """
        if name not in self.arrays:
            raise ValueError(
                f"no array {name!r}: this is no {self.what}; got {sorted(self.arrays)[:5]}, ..."
            )
        self.left.discard(name)
        return self.arrays[name]

    def group(self, layer: str) -> dict[str, np.ndarray]:
        """The arrays of a layer, ``<layer>/kernel`` and others, by the last part of their names.

        Raises:
            ValueError: If there are none.
        """
        found = sorted(name for name in self.arrays if name.rpartition("/")[0] == layer)
        return {n.rpartition("/")[2]: self.take(n) for n in found or [f"{layer}/kernel"]}

    def count(self, pattern: str) -> int:
        """One more than the highest number that the group of the pattern catches."""
        found = [int(m[1]) for name in self.arrays if (m := re.match(pattern, name))]
        return max(found, default=-1) + 1

    def finish(self, known: str) -> None:
        """Refuse a model of which something was not read.

        Raises:
            ValueError: Naming it, and what is known.
        """
        if self.left:
            raise ValueError(
                f"the model has parts that are not known here: {sorted(self.left)}; only {known} "
                "are read"
            )


def require(what: str, found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Refuse options of a foreign model, where given, other than those that are known.

    Raises:
        ValueError: Naming the option, its value, and the one that is known.
    """
    for name, value in expected.items():
        if found.get(name, value) != value:
            raise ValueError(f"{what} has {name} = {found[name]!r}, only {value!r} is known here")


def to_params(tree: Any, dtype: Any) -> Params:
    """The tree with every array in this precision."""
    import jax
    import jax.numpy as jnp

    def leaf(array: np.ndarray) -> Array:
        return jnp.asarray(array, dtype)

    return jax.tree.map(leaf, tree)
