r"""The kernel matrix of force and energy labels as an operator.

Rows and columns are ordered as the labels: forces of reference 0 (atom by atom, x, y, z), of
reference 1, …, then the energies if there are any. Observing forces is :math:`-\partial_r`, so that
the blocks are

.. math::
   K_{FF} = \partial_r \partial_{r'}^T k, \quad K_{EF} = -\partial_{r'}^T k, \quad K_{EE} = k.

The product with a vector is the model's own prediction at its references. The dense form evaluates
square tiles of references at a time, see :mod:`jaxff.gdml.blocks`.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxff.gdml import expansion as exp
from jaxff.gdml import prediction, sharding, stored_pairs
from jaxff.gdml.assembly import assembly_of, column_parts, diagonal
from jaxff.gdml.blocks import Tile, finish
from jaxff.gdml.stored_pairs import StoredPairs
from jaxff.kernels.kernel import Kernel
from jaxff.linalg.memory import column_ordered, lower_square
from jaxff.linalg.parallel import check_mesh
from jaxff.numerics import select
from jaxff.system import System
from jaxff.types import Array, Float

__all__ = ["GdmlOperator"]

_GROUP = 8
"""Columns of tiles in a group, which share the preparation of rows."""

_AHEAD = 2
"""Tiles in flight: JAX computes them in the background while others are copied."""


@dataclass(frozen=True)
class GdmlOperator:
    """Matrix of a kernel between its references; a :class:`jaxff.linalg.operators.KernelOperator`.

    Attributes:
        kernel: The kernel.
        hyper: Its hyperparameters.
        references: Stack of N systems.
        energies: Whether energies are labels next to the forces.
        mesh: Devices, along one axis, over which products and columns are shared out; ``None``
            for one device. Every process has to make the same calls.
        precision: Of the work on pairs in products with a vector: see :meth:`lowered`.
        stored: Values of all pairs, with which products are faster: see :meth:`prepared`. They hold
            for this operator alone: one made from it by ``dataclasses.replace`` has none.

    Raises:
        ValueError: For a mesh that does not suit the references.
    """

    kernel: Kernel
    hyper: dict[str, Array]
    references: System
    energies: bool = False
    mesh: Mesh | None = None
    precision: Literal["float64", "float32"] = "float64"
    stored: StoredPairs | None = field(default=None, init=False)

    def __post_init__(self):
        if self.mesh is not None:
            check_mesh(self.mesh, self.count)

    @property
    def count(self) -> int:
        """Number of references."""
        return self.references.positions.shape[0]

    @property
    def block(self) -> int:
        """Force components per reference."""
        return 3 * self.references.atom_count

    @property
    def size(self) -> int:
        """Number of labels."""
        return self.count * (self.block + int(self.energies))

    def unravel(self, vector: Array | np.ndarray) -> dict[str, Any]:
        """Split a label vector: ``forces (N, atoms, 3)`` and, if it is a label, ``energy (N,)``."""
        split = self.count * self.block
        labels = {"forces": vector[:split].reshape(self.count, -1, 3)}
        if self.energies:
            labels["energy"] = vector[split:]
        return labels

    def ravel(self, labels: dict[str, Any]) -> np.ndarray:
        """Join labels in the order of the rows."""
        parts = [np.ravel(labels["forces"])]
        if self.energies:
            parts.append(np.ravel(labels["energy"]))
        return np.concatenate(parts)

    def matvec(self, vector: Float[Array | np.ndarray, " n"]) -> Float[Array, " n"]:
        """Forces (and energies) predicted at the references with ``vector`` as coefficients."""
        vector = jnp.asarray(vector)
        if self.mesh is not None:
            return sharding.product(self._static, self.mesh, self._placed, vector)
        if self.stored is not None:
            return _stored_matvec(self._static, self.hyper, self.references, self.stored, vector)
        return _matvec(self._static, self.hyper, self.references, vector)

    @property
    def _static(self) -> tuple[Kernel, bool, bool]:
        return self.kernel, self.energies, self.precision == "float32"

    def lowered(self) -> "GdmlOperator":
        """The same with products in float32, from centred features; faster, exact to 1e-7."""
        return replace(self, precision="float32")

    def prepared(self, memory: float) -> "GdmlOperator":
        """The same with values of all pairs kept for its products, if these bytes suffice.

        Products on several devices, in float32 and by Fourier transforms are left as they are.
        """
        needed = stored_pairs.stored_bytes(self.kernel, self.count, self.energies)
        elsewhere = self.mesh is not None or self.precision == "float32"
        elsewhere |= self.kernel.translations is not None
        if elsewhere or self.stored is not None or needed > memory:
            return self
        kept = stored_pairs.store(self.kernel, self.energies, self.hyper, self.references)
        same = replace(self)
        object.__setattr__(same, "stored", kept)
        return same

    @cached_property
    def _placed(self) -> Any:
        return sharding.place(self.mesh, self.hyper, self.references) if self.mesh else None

    def shares(self) -> list[np.ndarray]:
        """Labels of the references of each device of the mesh, in ascending order."""
        owned = sharding.assign(self.count, self.mesh.size if self.mesh else 1)
        return [sharding.labels_of(of, self.count, self.block, self.energies) for of in owned]

    def diagonal_blocks(self) -> Iterator[Float[np.ndarray, "block block"]]:
        """Blocks of the force labels of each reference with themselves, in order."""
        for index in range(self.count):
            one = select(self.references, np.array([index]))
            yield replace(self, references=one, energies=False, mesh=None).dense()

    def diagonal(self) -> Float[Array, " n"]:
        """Diagonal of the matrix."""
        return diagonal(self.kernel, self.energies, self.hyper, self.references)

    def columns(
        self, index: np.ndarray, share: int | None = None
    ) -> Float[np.ndarray, "rows columns"]:
        """Selected columns, in column order, in host memory.

        With ``share`` only the rows of one device of the mesh: see :meth:`shares`.
        """
        index = np.asarray(index)
        part = self if share is None else self._part(share)
        result = column_ordered(part.size, len(index))
        given = self.kernel, self.energies, self.hyper, self.references
        for chosen, rows, values in column_parts(*given, part.references, index):
            part._place(result.T, chosen, rows, values)
        return result

    def _part(self, share: int) -> "GdmlOperator":
        """The references of one device, as an operator of their own."""
        owned = sharding.assign(self.count, self.mesh.size if self.mesh else 1)[share]
        return replace(self, references=select(self.references, owned), mesh=None)

    def dense(
        self, *, lower: bool = False, progress: Callable[[float], None] | None = None
    ) -> np.ndarray:
        """The matrix in column order, in host memory.

        With ``lower`` its upper triangle is left untouched.
        """
        size = self.size
        result = lower_square(size) if lower else np.empty((size, size), order="F")
        split = self.count * self.block
        for tile in self._tiles(lower):
            first, last = tile.columns
            forces = slice(first * self.block, last * self.block)
            values = tile.values[:, : self.block]
            values = values.reshape(-1, *values.shape[2:])
            if lower and tile.rows[1] <= first:  # above the diagonal, but for the energies
                values = values[:, self.block :]
            self._place(result.T, forces, tile.rows, values)
            if self.energies:
                energies = slice(split + first, split + last)
                self._place(result.T, energies, tile.rows, tile.values[:, self.block])
            if progress is not None:
                done = last / self.count
                progress(done * (2.0 - done) if lower else done)
        return result

    def _place(
        self, columns: np.ndarray, which: Any, rows: tuple[int, int], values: np.ndarray
    ) -> None:
        """Write ``values (columns, block and/or energy, row references)`` into the transpose."""
        first, last = rows
        split = self.count * self.block
        if values.shape[1] >= self.block:
            forces = columns[:, :split].reshape(len(columns), self.count, self.block)
            forces[which, first:last] = np.swapaxes(values[:, : self.block], 1, 2)
        if self.energies:
            columns[which, split + first : split + last] = values[:, -1]

    def _tiles(self, lower: bool) -> Iterator[Tile]:
        """All tiles, a few computed ahead of their consumer."""
        pending: deque = deque()
        for tile in self._pending_tiles(lower):
            pending.append(tile)
            if len(pending) > _AHEAD:
                yield finish(*pending.popleft())
        while pending:
            yield finish(*pending.popleft())

    def _pending_tiles(self, lower: bool) -> Iterator[tuple[Any, Any, Array]]:
        assembly = assembly_of(self.kernel, self.energies, self.hyper, self.references)
        height, width = assembly.height, assembly.width
        everything = np.arange(self.count)
        for group in range(0, self.count, _GROUP * width):
            starts = range(group, min(group + _GROUP * width, self.count), width)
            columns = [
                assembly.columns(
                    select(self.references, np.resize(everything[at : at + width], width))
                )
                for at in starts
            ]
            for first in range(0, self.count, height):
                last = min(first + height, self.count)
                # Rows of energies lie below every column of forces, so they need all tiles.
                if lower and not self.energies and last <= group:
                    continue
                own = np.minimum(first + np.arange(height), self.count - 1)
                rows = assembly.rows(select(self.references, own))
                for start, queries in zip(starts, columns, strict=True):
                    if lower and not self.energies and last <= start:
                        continue
                    values = assembly.tile(queries, rows)
                    yield (first, last), (start, min(start + width, self.count)), values


@partial(jax.jit, static_argnums=0)
def _matvec(static: Any, hyper: Any, references: System, vector: Array) -> Array:
    kernel, energies, lower = static
    operator = GdmlOperator(kernel, hyper, references, energies)
    expansion = exp.expand(kernel, hyper, references, operator.unravel(vector))
    expansion = exp.lowered(expansion) if lower else expansion
    energy, forces = prediction.predict_labels(kernel, hyper, expansion, references)
    return jnp.concatenate([forces.ravel(), energy]) if energies else forces.ravel()


@partial(jax.jit, static_argnums=0)
def _stored_matvec(
    static: Any, hyper: Any, references: System, stored: StoredPairs, vector: Array
) -> Array:
    kernel, energies, _ = static
    labels = GdmlOperator(kernel, hyper, references, energies).unravel(vector)
    energy, forces = stored_pairs.product(
        kernel, hyper, references, stored, labels["forces"], labels.get("energy")
    )
    return jnp.concatenate([forces.ravel(), energy]) if energies else forces.ravel()
