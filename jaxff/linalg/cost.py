r"""How large a preconditioner should be: a model of the cost, fitted on the machine at hand.

The time of a solve with k columns is

.. math:: T(k) = k\,t_c + \frac{3 n k^2}{F} + I(k)\,(t_K + 2 n k\, t_b)

with the time :math:`t_c` of a column, the speed F of matrix products, the time :math:`t_K` of a
product with the matrix and :math:`t_b` per entry of the factor, which an iteration reads twice. The
number of iterations follows the condition of the preconditioned matrix,
:math:`I \approx c\sqrt{1 + s/\lambda}`. The largest eigenvalue s of what q columns leave of the
matrix is measured; with k columns it is :math:`s\,(q/k)^2`, so that :math:`I \propto 1/k` as the
paper finds.

Reference:
    Blücher, Müller & Chmiela, J. Chem. Theory Comput. 19, 4619 (2023),
    doi:10.1021/acs.jctc.2c01304 (rule of thumb, and how iterations fall with k; the model of the
    cost is our own).
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxff.linalg.low_rank import nystroem_factor
from jaxff.linalg.memory import available_bytes, format_bytes
from jaxff.linalg.operators import KernelOperator
from jaxff.linalg.parallel import agree, least, mesh_of, process_count
from jaxff.types import Float

__all__ = [
    "Estimate",
    "Machine",
    "Rank",
    "estimate",
    "measure",
    "most_columns",
    "resolve_rank",
    "rule_of_thumb",
]

Rank = int | float | str

ITERATIONS = 1.9
"""Iterations per root of the condition number to a residual of 1e-4: stored runs of ethanol with
the exact eigenvectors, n = 2700, give 1.9. Columns leave a few eigenvalues far above the others,
which the iteration removes; how many is not modelled: expect the estimate within a factor of
three."""

_PROBE, _POWERS = 512, 8
"""Columns of the approximation whose remainder is measured, and products that are spent on it."""


class Machine(NamedTuple):
    r"""What was measured.

    Attributes:
        product: Seconds of a product with the matrix.
        column: Seconds of a column.
        entry: Seconds per entry of the factor in one application.
        operation: Seconds per multiplication and addition in products of matrices.
        probe: Columns of a small Nyström approximation.
        remainder: Largest eigenvalue of what it leaves of the matrix.
    """

    product: float
    column: float
    entry: float
    operation: float
    probe: int
    remainder: float


class Estimate(NamedTuple):
    """The best rank, with the seconds and iterations that it is expected to take."""

    rank: int
    seconds: float
    iterations: float


def rule_of_thumb(size: int, *, exponent: float = 1.0, scale: float = 100.0) -> int:
    r"""Rank :math:`[\tfrac m2 \hat k^m n^2]^{1/(m+2)}` of the paper.

    Args:
        size: n.
        exponent: m.
        scale: :math:`\hat k`.

    Reference:
        Blücher, Müller & Chmiela, J. Chem. Theory Comput. 19, 4619 (2023),
        doi:10.1021/acs.jctc.2c01304, section 4.3.
    """
    return round((0.5 * exponent * scale**exponent * size**2) ** (1.0 / (exponent + 2.0)))


def resolve_rank(
    rank: Rank, operator: KernelOperator, *, growth: float = 1.0, memory: float | None = None,
    regularization: float | None = None, squares: int = 3,
) -> int:  # fmt: skip
    """The number of columns that a choice of rank means for an operator, at most n.

    Args:
        rank: The choice.
        operator: The matrix.
        growth: Factor on it.
        memory: Bytes that the factor may take while it is made; default half of what is free.
        regularization: Mean of the added diagonal, for ``"auto"``.
        squares: Matrices of the size of the rank that are needed on the way.

    Raises:
        ValueError: For a rank that is no number of columns, no fraction and no known name, and for
            more columns than the matrix has.
        MemoryError: If a named number of columns exceeds the memory.
    """
    size, mesh = operator.size, mesh_of(operator)
    most = most_columns(size, memory, mesh, squares)
    if rank == "auto":
        few = max(1, most // 3)  # held twice, beside the pairs that products store
        machine = measure(_prepared(operator, few), few)
        best = estimate(machine, size, regularization or 1e-10, most)
        chosen = int(agree(mesh, best.rank))  # clocks differ
    elif rank == "rule_of_thumb":
        chosen = rule_of_thumb(size)
    elif isinstance(rank, bool | str) or not 0 < rank < (1 if isinstance(rank, float) else np.inf):
        raise ValueError(
            "rank must be a positive number of columns (an integer), a fraction of them (a float "
            f"below 1), 'auto' or 'rule_of_thumb', got {rank!r}"
        )
    else:
        chosen = round(rank * size) if rank < 1 else int(rank)
        if chosen > size:
            raise ValueError(
                f"rank must be at most the {size} rows of the matrix, got {rank}: choose fewer "
                "columns"
            )
        if chosen > most:
            needed = _bytes(size, chosen, mesh, squares)
            raise MemoryError(
                f"a preconditioner of {chosen} columns of {size} rows takes "
                f"{format_bytes(needed)}, {format_bytes(least(mesh, _limit(memory)))} are "
                f"allowed: choose a rank of at most {most}"
            )
    return int(np.clip(round(growth * chosen), 1, min(size, most)))


def _prepared(operator: KernelOperator, most: int) -> KernelOperator:
    """With the products that a solve will make, if they take no more than a probe does."""
    prepared = getattr(operator, "prepared", None)
    return operator if prepared is None else prepared(8.0 * operator.size * min(_PROBE, most))


def spare_bytes(memory: float | None, kept: int, mesh: Mesh | None) -> float:
    """What a factor leaves of the memory."""
    return max(0.0, least(mesh, _limit(memory)) - (kept if memory is not None else 0))


def _rows(size: int, mesh: Mesh | None) -> float:
    """Rows that a process holds: on a mesh with a copy, where devices get less than others."""
    return size if mesh is None else 2.0 * size / process_count(mesh)


def _bytes(size: int, rank: int, mesh: Mesh | None, squares: int) -> int:
    """Memory of building a factor: its columns, which become an array of the device, and squares.

    What is measured beyond that is a few hundred megabytes for programs and their work space.
    """
    return int(8 * (_rows(size, mesh) * rank + squares * rank**2))


def _limit(memory: float | None) -> float:
    return 0.5 * available_bytes() if memory is None else memory


def most_columns(
    size: int, memory: float | None, mesh: Mesh | None = None, squares: int = 3
) -> int:
    """The largest rank within the memory of a process, by default half of what is free.

    Raises:
        MemoryError: If not a single column fits.
    """
    limit = least(mesh, _limit(memory))
    rows = _rows(size, mesh)
    most = int((np.sqrt(rows**2 + squares * limit / 2) - rows) / (2.0 * squares))
    if most < 1:
        raise MemoryError(
            f"a preconditioner of one column of {size} rows takes "
            f"{format_bytes(_bytes(size, 1, mesh, squares))}, {format_bytes(limit)} are allowed: "
            "allow more, or use fewer training geometries"
        )
    return min(size, most)


def estimate(machine: Machine, size: int, regularization: float, most: int) -> Estimate:
    """The rank of least expected time."""
    ranks = np.unique(np.geomspace(1, max(1, min(most, size)), 200).round()).astype(int)
    iterations = expected_iterations(machine, ranks, regularization)
    step = machine.product + 2.0 * machine.entry * size * ranks
    seconds = machine.column * ranks + 3.0 * machine.operation * size * ranks**2 + iterations * step
    best = int(np.argmin(seconds))
    return Estimate(int(ranks[best]), float(seconds[best]), float(iterations[best]))


def expected_iterations(
    machine: Machine, ranks: np.ndarray, regularization: float
) -> Float[np.ndarray, " ranks"]:
    """Iterations to a relative residual of 1e-4."""
    remainder = machine.remainder * (machine.probe / ranks) ** 2
    return ITERATIONS * np.sqrt(1.0 + remainder / regularization)


def measure(operator: KernelOperator, most: int = _PROBE, seed: int = 0) -> Machine:
    """Time products, columns and the machine, and look at what columns leave of the matrix.

    On a mesh products are timed as they run; columns and their factorisation are divided by the
    processes, which work on them side by side, and the application of the factor by the devices.

    Args:
        operator: The matrix.
        most: Columns that may be held.
        seed: Of the choice of columns.
    """
    size = operator.size
    rng = np.random.default_rng(seed)
    index = np.sort(rng.choice(size, min(_PROBE, max(1, size // 4), most), replace=False))
    operator.columns(index[:1])  # compiles
    column, columns = _timed(lambda: operator.columns(index), 1)
    vector = jnp.asarray(rng.normal(size=size))
    jax.block_until_ready(operator.matvec(vector))
    product, _ = _timed(lambda: jax.block_until_ready(operator.matvec(vector)))
    thin = jnp.asarray(columns.T)
    multiply = jax.jit(lambda a, x: a @ x)
    jax.block_until_ready(multiply(thin, vector))
    stream, _ = _timed(lambda: jax.block_until_ready(multiply(thin, vector)))
    square = rng.normal(size=(768, 768))
    arithmetic, _ = _timed(lambda: square @ square)
    factor, _ = nystroem_factor(columns, index)
    mesh = mesh_of(operator)
    devices, processes = 1 if mesh is None else mesh.size, process_count(mesh)
    return Machine(
        product, column / len(index) / processes, stream / factor.size / devices,
        arithmetic / 768**3 / processes,
        len(index), _largest_remainder(operator, factor, np.asarray(vector)),
    )  # fmt: skip


def _largest_remainder(
    operator: KernelOperator, factor: Float[np.ndarray, "n k"], start: Float[np.ndarray, " n"]
) -> float:
    """Largest eigenvalue of the matrix less its approximation, by the power method from below."""
    vector, value = start, 0.0
    for _ in range(_POWERS):
        vector = vector / max(np.linalg.norm(vector), np.finfo(float).tiny)
        image = np.asarray(operator.matvec(jnp.asarray(vector))) - factor @ (factor.T @ vector)
        value, vector = float(vector @ image), image
    return max(value, 0.0)


def _timed(function: Callable[[], Any], repeats: int = 2) -> tuple[float, Any]:
    best, result = np.inf, None
    for _ in range(repeats):
        start = time.perf_counter()
        result = function()
        best = min(best, time.perf_counter() - start)
    return best, result
