r"""Solvers of regularised symmetric systems :math:`(K + D)\,c = y`, diagonal :math:`D > 0`."""

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxff.linalg import preconditioners
from jaxff.linalg.blocked_cholesky import factorize, solve
from jaxff.linalg.conjugate_gradient import SLACK, Settings, minimize
from jaxff.linalg.memory import available_bytes, check_limit, dense_bytes, format_bytes
from jaxff.linalg.operators import KernelOperator
from jaxff.linalg.parallel import least, mesh_of
from jaxff.linalg.preconditioners import Preconditioner
from jaxff.linalg.progress import Progress

__all__ = ["Progress", "Solution", "Solver", "auto", "cholesky", "conjugate_gradient"]


class Solution(NamedTuple):
    """Result of a solve.

    Attributes:
        value: The solution, of the shape of the right-hand side.
        residual_norm: Euclidean norm of the residual relative to that of the right-hand side; the
            largest of several.
        iterations: Number of iterations; 0 for a direct solver.
        converged: Whether the solver met its own criterion: for iterations the tolerance, by a
            fresh product; for a factorisation a residual that is not lost to rounding.
        history: Relative residual before each iteration.
        rank: Rank of the preconditioner at the end; 0 without one.
        seconds: Time by stage.
        method: What was done, and why if it was chosen.
    """

    value: np.ndarray
    residual_norm: float
    iterations: int
    converged: bool
    history: np.ndarray = np.zeros(0)
    rank: int = 0
    seconds: dict[str, float] = {}  # noqa: RUF012  never written to
    method: str = "cholesky"


Solver = Callable[[KernelOperator, np.ndarray, np.ndarray], Solution]
"""Takes the operator, the right-hand side and the added diagonal (both ``(n,)``)."""


def cholesky(
    *, memory: float | None = None, progress: Callable[[float], None] | None = None
) -> Solver:
    """Direct solution by a Cholesky factorisation in place.

    Only the lower triangle is assembled and factorised, in one column-ordered array, whose
    untouched pages take no memory: the peak is little more than half of the full matrix.

    Args:
        memory: Bytes that may be used; default what is free.
        progress: Called with the part that is done, between 0 and 1; the assembly ends at one half.

    Raises:
        ValueError: For a limit that is no positive number.
        MemoryError: From the solver, if half the matrix exceeds the memory.
        numpy.linalg.LinAlgError: From the solver, if the matrix is not positive definite to working
            precision.
    """
    check_limit(memory)
    return partial(_cholesky, memory, progress or _silent)


def _silent(part: float) -> None:
    del part


def _cholesky(
    memory: float | None,
    progress: Callable[[float], None],
    operator: KernelOperator,
    rhs: np.ndarray,
    diagonal: np.ndarray,
) -> Solution:
    size = operator.size
    _check_memory(size, available_bytes() if memory is None else memory)
    matrix = operator.dense(lower=True, progress=lambda part: progress(0.5 * part))
    matrix[np.diag_indices(size)] += diagonal
    try:
        factorize(matrix, progress=lambda part: progress(0.5 + 0.5 * part))
    except np.linalg.LinAlgError as error:
        raise np.linalg.LinAlgError(
            f"the regularised kernel matrix is {error} of {size}: raise the regularization, remove "
            "duplicate geometries, or shorten the length scale"
        ) from error
    value = solve(matrix, rhs)
    del matrix
    if not np.isfinite(value).all():
        raise np.linalg.LinAlgError(
            f"the solution of {size} equations is not finite: the matrix or the right-hand side is "
            "not, or they are beyond working precision; check the geometries and labels"
        )
    residual = rhs - np.asarray(operator.matvec(jnp.asarray(value))) - diagonal * value
    relative = float(np.linalg.norm(residual) / max(np.linalg.norm(rhs), np.finfo(float).tiny))
    return Solution(value, relative, 0, bool(relative <= _LOST))


_LOST = 0.1
"""Residual above which a factorisation has lost the equations to rounding: the solution of a nearly
singular matrix, without regularization, need not satisfy them (zero leaves a residual of 1)."""


def _check_memory(size: int, allowed: float) -> None:
    needed = dense_bytes(size)
    if needed > allowed:
        raise MemoryError(
            f"a dense solve of {size} equations needs {format_bytes(needed)}, "
            f"{format_bytes(allowed)} may be used: use fewer training geometries, or an "
            "iterative solver"
        )


def conjugate_gradient(
    *,
    preconditioner: Preconditioner | None = None,
    rtol: float = 1e-4,
    max_iterations: int | None = None,
    restarts: int = 6,
    window: int = 100,
    checkpoint: str | Path | None = None,
    checkpoint_seconds: float = 10.0,
    progress: Callable[[float], None] | None = None,
    callback: Callable[[Progress], None] | None = None,
    start: np.ndarray | None = None,
    product: str = "float64",
) -> Solver:
    """Iterative solution by preconditioned conjugate gradients; the matrix is never formed.

    Several right-hand sides, ``(n, m)``, share their products. Where the tolerance is not reached
    the iterate of the least residual is returned, which need not be the last.

    Args:
        preconditioner: From :mod:`jaxff.linalg.preconditioners`; default ``nystroem()``.
        rtol: Residual relative to the right-hand side at which to stop; confirmed by a fresh
            product.
        max_iterations: Limit; default 10 n.
        restarts: How often a larger preconditioner may be built when progress stalls.
        window: Iterations over which progress is judged.
        checkpoint: File to which the state is written now and then, and from which a solve of the
            same system continues; removed when it has converged.
        checkpoint_seconds: Time between two writes.
        progress: Called in every iteration with the part that is done, as far as the fall of the
            residual tells.
        callback: Called in every iteration with a :class:`Progress`, which says how many seconds
            are left.
        start: First guess, of the shape of the right-hand side.
        product: ``"float32"`` for the work on pairs in single precision, twice as fast on one
            core; residuals are replaced by those of float64 as they fall, and the last one is
            confirmed. Only for regularizations above the error of such products, some 3e-7; where
            they do not suffice the solve goes on in float64 and says so in ``Solution.method``
            and the log ``jaxff``. There it takes more iterations, so that little is gained on a
            CPU: see ``experiments/benchmarks/mixed_precision.json``.

    Raises:
        ValueError: For numbers that make no sense, a zero diagonal (see the message), or a
            checkpoint of another system.
        FileNotFoundError: From the solver, if the folder of the checkpoint does not exist.
        FloatingPointError: From the solver, if the iteration breaks down or diverges.
    Reference:
        Blücher, Müller & Chmiela, J. Chem. Theory Comput. 19, 4619 (2023),
        doi:10.1021/acs.jctc.2c01304.
    """
    if not 0.0 < rtol < 1.0:
        raise ValueError(f"rtol must be between 0 and 1, got {rtol}")
    for name, value, lowest in (("restarts", restarts, 0), ("window", window, 2)):
        if value < lowest:
            raise ValueError(f"{name} must be at least {lowest}, got {value}")
    if product not in ("float64", "float32"):
        raise ValueError(f"product must be 'float64' or 'float32', got {product!r}")
    if max_iterations is not None and max_iterations < 1:
        raise ValueError(f"max_iterations must be at least 1, got {max_iterations}")
    settings = Settings(
        preconditioners.nystroem() if preconditioner is None else preconditioner,
        rtol, max_iterations, restarts, window, None if checkpoint is None else Path(checkpoint),
        checkpoint_seconds, progress, callback, start, product,
    )  # fmt: skip
    return partial(_conjugate_gradient, settings)


_RANGE = 1e140
"""Largest entries, and the inverse of the smallest, whose squares neither overflow nor vanish: a
norm that vanishes would pass for a residual of zero."""


def _conjugate_gradient(
    settings: Settings, operator: KernelOperator, rhs: np.ndarray, diagonal: np.ndarray
) -> Solution:
    if not (np.isfinite(diagonal).all() and (diagonal > 0).all()):
        raise ValueError(
            "an iterative solve needs a positive number on the whole diagonal, got a smallest of "
            f"{np.min(diagonal)}: without regularization, equal or similar geometries leave the "
            "system without a unique solution; 1e-10 (on scaled labels) is usual"
        )
    if not np.isfinite(rhs).all():
        raise ValueError("the right-hand side holds numbers that are not finite")
    shape = rhs.shape
    if shape[0] != operator.size:
        raise ValueError(f"the right-hand side must have {operator.size} rows, got {shape}")
    largest = np.abs(rhs).reshape(operator.size, -1).max(axis=0)
    if ((largest > _RANGE) | ((largest > 0) & (largest < 1.0 / _RANGE))).any():
        raise ValueError(
            f"the norm of the right-hand side must be within {1.0 / _RANGE:.0e} and {_RANGE:.0e}, "
            f"where its square is a number, got entries up to {largest.max():.1e}: scale it"
        )
    if settings.start is not None:
        if np.shape(settings.start) != shape:
            raise ValueError(f"start must have shape {shape}, got {np.shape(settings.start)}")
        settings = replace(settings, start=np.reshape(settings.start, (operator.size, -1)))
    found = minimize(settings, operator, rhs.reshape(operator.size, -1), diagonal)
    worst = float(np.max(found.residual_norm))
    building, iterating = found.seconds
    return Solution(
        found.value.reshape(shape), worst, found.iterations, worst <= settings.rtol * SLACK,
        found.history, found.ranks[-1], {"preconditioner": building, "iterations": iterating},
        ", ".join(filter(None, ("conjugate gradients", found.note))),
    )  # fmt: skip


_DIRECT = 40_000
"""Equations up to which a matrix that fits is factorised: ten minutes on a core of 40 Gflop/s."""


def auto(
    *,
    memory: float | None = None,
    preconditioner: Preconditioner | None = None,
    rtol: float = 1e-4,
    checkpoint: str | Path | None = None,
    progress: Callable[[float], None] | None = None,
    callback: Callable[[Progress], None] | None = None,
    tell: Callable[[str], None] | None = None,
) -> Solver:
    """Cholesky factorisation or conjugate gradients, by size and memory.

    Whatever fits is factorised, up to 40 000 equations: the solution is exact, and the same in
    every run. What is larger is solved iteratively.

    Args:
        memory: Bytes that may be used; default what is free.
        preconditioner: For the iterative path; default ``nystroem(memory=memory)``.
        rtol: For the iterative path.
        checkpoint: For the iterative path. That a factorisation does without is told.
        progress: Called with the part that is done.
        callback: For the iterative path.
        tell: Called with one sentence that says which and why, before anything is solved; by
            default it goes to the log ``jaxff``.

    Raises:
        ValueError: For a limit that is no positive number.
    """
    check_limit(memory)
    iterate = partial(
        conjugate_gradient, rtol=rtol, checkpoint=checkpoint, progress=progress, callback=callback
    )
    return partial(_auto, memory, preconditioner, iterate, progress, tell or _LOG.info)


_LOG = logging.getLogger("jaxff")


def _auto(
    memory: float | None,
    preconditioner: Preconditioner | None,
    iterate: partial[Solver],
    progress: Callable[[float], None] | None,
    tell: Callable[[str], None],
    operator: KernelOperator,
    rhs: np.ndarray,
    diagonal: np.ndarray,
) -> Solution:
    mesh = mesh_of(operator)
    free = least(mesh, float(available_bytes() if memory is None else memory))
    direct, reason = _choose(operator, diagonal, free)
    unused = iterate.keywords["checkpoint"] if direct else None
    tell(reason if unused is None else f"{reason}; no checkpoint is kept in {unused}")
    if direct:
        solution = cholesky(memory=memory, progress=progress)(operator, rhs, diagonal)
    else:
        chosen = preconditioner or preconditioners.nystroem(memory=memory)
        solution = iterate(preconditioner=chosen)(operator, rhs, diagonal)
    return solution._replace(method=reason)


def _choose(operator: KernelOperator, diagonal: np.ndarray, memory: float) -> tuple[bool, str]:
    size = operator.size
    needed = dense_bytes(size)
    sizes = f"{size} equations, {format_bytes(needed)} dense, {format_bytes(memory)} allowed"
    if needed > memory:
        return False, f"conjugate gradients: the matrix does not fit ({sizes})"
    if size <= _DIRECT:
        return True, f"cholesky: the matrix fits, and the solution is exact ({sizes})"
    if not (diagonal > 0).all():
        return True, f"cholesky: without regularization an iteration need not end ({sizes})"
    return False, f"conjugate gradients: a factorisation would take long ({sizes})"
