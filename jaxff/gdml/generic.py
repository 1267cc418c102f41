"""The kernel matrix of any kernel and any labels as an operator.

Rows and columns are ordered by label, in the order of :data:`jaxff.gdml.labels.LABELS`, then by
reference, then by component. The product with a vector is the model's own prediction at its
references: energies of jets, observed by differentiation.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxff.gdml import labels as lab
from jaxff.gdml.jets import Expanded, by_blocks, expand_compiled, jet
from jaxff.gdml.observation import observe_packed
from jaxff.linalg.memory import column_ordered, lower_square
from jaxff.numerics import select
from jaxff.system import System
from jaxff.types import Array, Float

__all__ = ["GenericOperator", "observed", "tile", "unit_jets"]

_COLUMNS = 128
"""Columns that are computed at once, at most."""

_ELEMENTS = 1_000_000
"""Entries of the largest intermediate of a tile, roughly."""

_WIDEST = 16_000_000
"""The same of a tile of a single query: large groups take fewer columns at once."""


@dataclass(frozen=True, eq=False)
class GenericOperator:
    """Matrix of a kernel between its references; a :class:`jaxff.linalg.operators.KernelOperator`.

    Attributes:
        kernel: Any kernel on systems.
        hyper: Its hyperparameters.
        references: Stack of N systems.
        names: Labels, those of users as their :class:`jaxff.gdml.Observable`.
        directions: Of ``hessian_vector``, ``(N, directions, atoms, 3)``.
    """

    kernel: Any
    hyper: dict[str, Array]
    references: System
    names: tuple[lab.Label, ...]
    directions: Any = None

    def __post_init__(self):
        object.__setattr__(self, "names", lab.ordered(self.names))

    @property
    def count(self) -> int:
        """Number of references."""
        return self.references.positions.shape[0]

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each label of one reference, its independent components."""
        directions = 0 if self.directions is None else self.directions.shape[1]
        return lab.packed_shapes(self.names, self.references.atom_count, directions)

    @property
    def block(self) -> int:
        """Label components per reference."""
        return sum(int(np.prod(shape)) for shape in self.shapes.values())

    @property
    def size(self) -> int:
        """Number of label components."""
        return self.count * self.block

    @cached_property
    def places(self) -> np.ndarray:
        """Row ``[reference, component]`` of each label component."""
        parts, start = [], 0
        for shape in self.shapes.values():
            own = int(np.prod(shape))
            parts.append(start + np.arange(self.count * own).reshape(self.count, own))
            start += self.count * own
        return np.concatenate(parts, axis=1)

    def unravel(self, vector: Any) -> dict[str, Any]:
        """Split a label vector into packed labels ``(N, ...)``."""
        labels, start = {}, 0
        for name, shape in self.shapes.items():
            own = self.count * int(np.prod(shape))
            labels[name] = vector[start : start + own].reshape(self.count, *shape)
            start += own
        return labels

    def ravel(self, labels: dict[str, Any]) -> np.ndarray:
        """Join packed labels in the order of the rows."""
        return np.concatenate([np.ravel(labels[name]) for name in self.shapes])

    def matvec(self, vector: Float[Array | np.ndarray, " n"]) -> Float[Array, " n"]:
        """Labels predicted at the references with ``vector`` as coefficients."""
        model = self._model(self.unravel(jnp.asarray(vector)))
        found = observed(self.names, model, self.references, self.directions)
        return jnp.concatenate([jnp.ravel(found[name]) for name in self.shapes])

    def resolved(self, coefficients: dict[str, Any]) -> dict[str, Any]:
        """Split coefficients as models want them: see :func:`jaxff.gdml.labels.resolved`."""
        return lab.resolved(self.names, self.references, coefficients)

    def _model(self, coefficients: dict[str, Any]) -> Any:
        """The energy function with these coefficients."""
        jets = expand_compiled(
            self.kernel, self.hyper, self.references, self.resolved(coefficients), self.directions
        )
        return Expanded(self.kernel, self.hyper, jets)

    def diagonal(self) -> Float[Array, " n"]:
        """Diagonal of the matrix."""
        result = np.empty(self.size)
        for owner, component, used in self._batches(np.arange(self.count * self.block)):
            functionals = self._unit(owner, component)
            values = _own_entries(
                self.kernel, self.names, self.hyper, *self._at(owner), functionals, component
            )
            result[self.places[owner, component][:used]] = np.asarray(values)[:used]
        return jnp.asarray(result)

    def columns(self, index: np.ndarray) -> Float[np.ndarray, "n columns"]:
        """Selected columns, in column order, in host memory."""
        index = np.asarray(index)
        result = column_ordered(self.size, len(index))
        where = np.empty(self.size, int)
        where[self.places.ravel()] = np.arange(self.size)  # reference-major order
        start = 0
        for owner, component, used in self._batches(where[index]):
            for rows, values in self._tiles(owner, component, 0):
                places = self.places[rows]
                result[places, start : start + used] = values[:, :used].swapaxes(1, 2)
            start += used
        return result

    def dense(
        self, *, lower: bool = False, progress: Callable[[float], None] | None = None
    ) -> np.ndarray:
        """The matrix in column order, in host memory, exactly symmetric.

        With ``lower`` its upper triangle is left untouched. Of two equal entries one is computed.
        """
        size = self.size
        result = lower_square(size) if lower else np.empty((size, size), order="F")
        for owner, component, used in self._batches(np.arange(size)):
            columns = self.places[owner, component]
            for rows, values in self._tiles(owner, component, int(owner[0])):
                for row, block in zip(rows, values, strict=True):
                    mine = np.flatnonzero(owner[:used] <= row)
                    first, second = self.places[row][:, None], columns[mine][None]
                    low, high = np.maximum(first, second), np.minimum(first, second)
                    result[low, high] = block[mine].T
                    if not lower:
                        result[high, low] = block[mine].T
            if progress is not None:
                done = (owner[used - 1] + 1) / self.count
                progress(float(done * (2.0 - done)))
        return result

    def jets(self, index: np.ndarray) -> Any:
        """Jets of single labels: the models that the columns of the matrix are predictions of."""
        where = np.empty(self.size, int)
        where[self.places.ravel()] = np.arange(self.size)
        owner, component = np.divmod(where[np.asarray(index)], self.block)
        systems, _ = self._at(owner)
        return unit_jets(self.kernel, self.hyper, systems, self._unit(owner, component))

    def _batches(self, index: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
        """Owners and components of reference-major indices, in batches filled up by repetition."""
        width = min(_COLUMNS, self.size, max(1, _WIDEST // self._entries))
        for start in range(0, len(index), width):
            part = index[start : start + width]
            owner, component = np.divmod(np.resize(part, width), self.block)
            yield owner, component, len(part)

    @cached_property
    def _entries(self) -> int:
        """Entries of the comparison of a single query and a single column."""
        one = np.zeros(1, int)
        jets = jax.eval_shape(
            partial(unit_jets, self.kernel), self.hyper, self._at(one)[0], self._unit(one, one)
        )
        probes = _probes(self.names, self.references)
        return self.kernel.order * probes * sum(leaf.size for leaf in jax.tree.leaves(jets))

    def _at(self, owner: Any) -> tuple[System, Any]:
        return select(self.references, owner), (
            None if self.directions is None else select(self.directions, owner)
        )

    def _unit(self, owner: np.ndarray, component: np.ndarray) -> Any:
        systems, directions = self._at(owner)
        return lab.unit(self.names, systems, component, directions)

    def _tiles(
        self, owner: np.ndarray, component: np.ndarray, first: int
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Rows of references from the first on, and values ``(rows, columns, components)``."""
        systems, _ = self._at(owner)
        jets = unit_jets(self.kernel, self.hyper, systems, self._unit(owner, component))
        height = min(self.count, max(1, _ELEMENTS // (len(owner) * self._entries)))
        for start in range(first, self.count, height):
            rows = np.arange(start, min(start + height, self.count))
            filled = np.resize(rows, height)
            values = tile(self.kernel, self.names, self.hyper, *self._at(filled), jets)
            yield rows, np.asarray(values)[: len(rows)]


@partial(jax.jit, static_argnums=0)
def unit_jets(kernel: Any, hyper: Any, systems: System, functionals: Any) -> Any:
    """Jets of single label components."""

    def one(system: System, own: Any) -> Any:
        coefficients, pairs = own
        return jet(kernel, hyper, system, lab.adjoint(system, coefficients, None, pairs))

    return jax.vmap(one)(systems, functionals)


def _flat(energy_fn: Any, names: tuple[lab.Label, ...], system: System, directions: Any) -> Array:
    found = observe_packed(energy_fn, names, system, directions)
    return jnp.concatenate([jnp.ravel(found[lab.name_of(label)]) for label in names])


def _column(kernel: Any, hyper: Any, own: Any) -> Expanded:
    return Expanded(kernel, hyper, jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], own))


@partial(jax.jit, static_argnums=(0, 1))
def tile(
    kernel: Any,
    names: tuple[lab.Label, ...],
    hyper: Any,
    queries: System,
    directions: Any,
    jets: Any,
) -> Float[Array, "queries columns components"]:
    """Labels at some queries of the energies of single jets.

    Args:
        kernel: The kernel.
        names: Labels to observe.
        hyper: Hyperparameters.
        queries: Stack of systems.
        directions: Of ``hessian_vector`` at the queries.
        jets: Jets with a leading axis, each a model of its own.
    """

    def one(system: System, along: Any) -> Array:
        return jax.vmap(lambda own: _flat(_column(kernel, hyper, own), names, system, along))(jets)

    return jax.vmap(one)(queries, directions)


@partial(jax.jit, static_argnums=(0, 1))
def _own_entries(
    kernel: Any,
    names: tuple[lab.Label, ...],
    hyper: Any,
    systems: System,
    directions: Any,
    functionals: Any,
    component: Array,
) -> Array:
    """Diagonal entries of some columns: each model observed at its own reference."""

    def one(system: System, along: Any, own: Any, index: Array) -> Array:
        coefficients, pairs = own
        functional = lab.adjoint(system, coefficients, None, pairs)
        model = _column(kernel, hyper, jet(kernel, hyper, system, functional))
        return _flat(model, names, system, along)[index]

    return jax.vmap(one)(systems, directions, functionals, component)


@partial(jax.jit, static_argnums=0)
def observed(
    names: tuple[lab.Label, ...], model: Any, references: System, directions: Any
) -> dict[str, Array]:
    """Labels of a model at the references, block by block: packed, by name.

    Args:
        names: Labels.
        model: Energy function with an attribute ``elements``: :class:`jaxff.gdml.jets.Expanded` or
            :class:`jaxff.gdml.prediction.Predicted`.
        references: Stack of systems.
        directions: Of ``hessian_vector``.
    """

    def one(query: tuple[System, Any]) -> dict[str, Array]:
        return observe_packed(model, names, *query)

    elements = model.elements * _probes(names, references)
    return by_blocks(jax.vmap(one), (references, directions), elements)


def _probes(names: tuple[lab.Label, ...], references: System) -> int:
    """How many copies of a comparison second derivatives take."""
    return 3 * references.atom_count if any(lab.order_of(label) == 2 for label in names) else 1
