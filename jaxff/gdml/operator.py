r"""The kernel matrix of force and energy labels as an operator.

Rows and columns are ordered as the labels: forces of reference 0 (atom by atom, x, y, z), of reference 1, …, then the
energies if there are any. Observing forces is :math:`-\partial_r`, so that the blocks are

.. math::
   K_{FF} = \partial_r \partial_{r'}^T k, \quad K_{EF} = -\partial_{r'}^T k, \quad K_{EE} = k.

The product with a vector is the model's own prediction at its references. The dense form evaluates blocks of
references at a time: with Jacobians :math:`J`, differences :math:`d_p`, :math:`u_p = J_{ip}^T d_p` and
:math:`v_p = J_j^T d_p`, a force-force block is
:math:`-\sum_p (4 h''/\ell^4)\,u_p v_p^T + (2h'/\ell^2) J_{ip}^T J_j`, one matrix product over features and
permutations together.
"""

from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxff.gdml import expansion as exp
from jaxff.gdml.blocks import column_blocks, prepare_columns, prepare_rows
from jaxff.kernels.kernel import Kernel
from jaxff.system import System
from jaxff.types import Array, Float

__all__ = ["GdmlOperator"]

_TILE_ROWS = 1536
"""Rows of one square tile of the dense matrix: large enough to amortise dispatch, small enough for caches."""


@dataclass(frozen=True)
class GdmlOperator:
    """Matrix of a kernel between its references; a :class:`jaxff.linalg.operators.KernelOperator`.

    Attributes:
        kernel: The kernel.
        hyper: Its hyperparameters.
        references: Stack of N systems.
        energies: Whether energies are labels next to the forces.
    """

    kernel: Kernel
    hyper: dict[str, Array]
    references: System
    energies: bool = False

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

    def unravel(self, vector: Array) -> dict[str, Array]:
        """Split a label vector into ``forces (N, atoms, 3)`` and, if they are labels, ``energy (N,)``."""
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

    def matvec(self, vector: Float[Array, " n"]) -> Float[Array, " n"]:
        """Forces (and energies) predicted at the references with ``vector`` as coefficients."""
        return _matvec(self.kernel, self.energies, self.hyper, self.references, jnp.asarray(vector))

    def diagonal(self) -> Float[Array, " n"]:
        """Diagonal of the matrix."""
        return _diagonal(self.kernel, self.energies, self.hyper, self.references)

    def columns(self, index: np.ndarray) -> Float[np.ndarray, "n columns"]:
        """Selected columns, assembled from the blocks of the references they belong to."""
        index = np.asarray(index)
        split = self.count * self.block
        is_energy = index >= split
        owner = np.where(is_energy, index - split, index // self.block)
        within = np.where(is_energy, self.block, index % self.block)
        owners, position = np.unique(owner, return_inverse=True)
        result = np.empty((self.size, len(index)), order="F")
        for rows, columns, tile in self._tiles([(owners, None)]):
            mine = (columns[0] <= position) & (position < columns[1])
            picked = tile[position[mine] - columns[0], within[mine]]
            self._place(result.T, np.flatnonzero(mine), rows, picked)
        return result

    def dense(self, *, lower: bool = False) -> np.ndarray:
        """The matrix in column order, in host memory; with ``lower`` its upper triangle is left untouched."""
        result = np.empty((self.size, self.size), order="F")
        everything = np.arange(self.count)
        split = self.count * self.block
        for rows, columns, tile in self._tiles([(everything, lower)]):
            owners = everything[columns[0] : columns[1]]
            forces = (owners[:, None] * self.block + np.arange(self.block)).ravel()
            first, last = forces[0], forces[-1] + 1
            body = tile[:, : self.block].reshape(last - first, *tile.shape[2:])
            self._place(result.T[first:last], slice(None), rows, body)
            if self.energies:
                self._place(
                    result.T[split + owners[0] : split + owners[-1] + 1],
                    slice(None),
                    rows,
                    tile[:, self.block],
                )
        return result

    def _place(self, columns: np.ndarray, which: Any, rows: tuple[int, int], values: np.ndarray):
        """Write ``values (columns, rows of the tile, block [+1])`` into the transposed matrix."""
        first, last = rows
        split = self.count * self.block
        forces = values[:, :, : self.block].reshape(values.shape[0], -1)
        columns[which, first * self.block : last * self.block] = forces
        if self.energies:
            columns[which, split + first : split + last] = values[:, :, self.block]

    def _tiles(self, requests: list[tuple[np.ndarray, bool | None]]):
        """Yield ``(rows, columns, values)`` of tiles, computing a few ahead of the consumer.

        ``values`` has shape ``(column references, block [+1], row references, block [+1])``.
        """
        side = _even_tiles(self.count, max(1, _TILE_ROWS // self.block))
        pending: deque = deque()
        for owners, lower in requests:
            for c in range(0, len(owners), side):
                picked = owners[c : c + side]
                padded = np.resize(picked, side)
                for r in range(0, self.count, side):
                    last = min(r + side, self.count)
                    if lower and last <= picked[0]:
                        continue
                    tile = _tile(
                        self.kernel,
                        self.energies,
                        self.hyper,
                        self.references,
                        padded,
                        np.minimum(np.arange(r, r + side), self.count - 1),
                    )
                    pending.append(((r, last), (c, c + len(picked)), tile))
                    if len(pending) > 2:
                        yield _finish(*pending.popleft())
        while pending:
            yield _finish(*pending.popleft())


def _even_tiles(count: int, most: int) -> int:
    """Side of equal tiles, so that the last one wastes little."""
    return -(-count // -(-count // most))


def _finish(rows, columns, tile):
    """Wait for a tile and cut its padding."""
    values = np.asarray(tile)[: columns[1] - columns[0], :, : rows[1] - rows[0]]
    return rows, columns, values


@partial(jax.jit, static_argnums=(0, 1))
def _matvec(kernel: Kernel, energies: bool, hyper: Any, references: System, vector: Array) -> Array:
    operator = GdmlOperator(kernel, hyper, references, energies)
    expansion = exp.expand(kernel, hyper, references, operator.unravel(vector))

    def predicted(positions: Array) -> tuple[Array, Array]:
        queries = exp.query_features(kernel, hyper, references.replace(positions=positions))
        energy = exp.evaluate(kernel, hyper, expansion, queries)
        return jnp.sum(energy), energy

    (_, energy), gradient = jax.value_and_grad(predicted, has_aux=True)(references.positions)
    forces = -gradient.ravel()
    return jnp.concatenate([forces, energy]) if energies else forces


@partial(jax.jit, static_argnums=(0, 1))
def _tile(
    kernel: Kernel, energies: bool, hyper: Any, references: System, columns: Array, rows: Array
) -> Array:
    """Tile of the matrix, ``(column references, block [+1], row references, block [+1])``."""

    def select(index: Array) -> System:
        return jax.tree.map(lambda leaf: leaf[index], references)

    prepared_rows, center = prepare_rows(kernel, hyper, select(rows))
    prepared = prepare_columns(kernel, hyper, select(columns), center)
    prepared_rows, prepared = jax.lax.optimization_barrier((prepared_rows, prepared))
    return jax.lax.map(
        lambda query: column_blocks(kernel, energies, hyper["lengthscale"], query, prepared_rows),
        prepared,
    )


@partial(jax.jit, static_argnums=(0, 1))
def _diagonal(kernel: Kernel, energies: bool, hyper: Any, references: System) -> Array:
    def one(system: System) -> Array:
        single = jax.tree.map(lambda leaf: leaf[None], system)
        rows, center = prepare_rows(kernel, hyper, single)
        query = jax.tree.map(lambda leaf: leaf[0], prepare_columns(kernel, hyper, single, center))
        return jnp.diagonal(
            column_blocks(kernel, energies, hyper["lengthscale"], query, rows)[:, 0]
        )

    diagonal = jax.lax.map(one, references)
    if not energies:
        return diagonal.ravel()
    return jnp.concatenate([diagonal[:, :-1].ravel(), diagonal[:, -1]])
