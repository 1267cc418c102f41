r"""Preconditioned conjugate gradients for kernel systems, with several right-hand sides.

One product with the matrix and one application of the preconditioner per iteration. Right-hand
sides share them; each has its own step lengths, and those that have converged stand still.

Reference:
    Hestenes & Stiefel, J. Res. Natl. Bur. Stand. 49, 409 (1952), doi:10.6028/jres.049.044; Blücher,
    Müller & Chmiela, J. Chem. Theory Comput. 19, 4619 (2023), doi:10.1021/acs.jctc.2c01304 (the
    restart with a larger preconditioner: section 2 of the supporting information and the program
    sgdml 1.0).
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxff.linalg import checkpoint
from jaxff.linalg.low_rank import LowRank
from jaxff.linalg.mixed_precision import GAIN, Products, is_lost
from jaxff.linalg.operators import KernelOperator
from jaxff.linalg.parallel import agree, mesh_of
from jaxff.linalg.preconditioners import Preconditioner
from jaxff.linalg.progress import Progress, Reporter
from jaxff.types import Array, Float

__all__ = ["SLACK", "Settings", "minimize"]

SLACK = 1.01
"""Two products with the same vector may differ in their last digits."""

_DIVERGED = 1e6
"""Growth of the residual since the first iteration with a preconditioner that means failure."""


@dataclass(frozen=True)
class Settings:
    """How to iterate; see :func:`jaxff.linalg.solvers.conjugate_gradient`."""

    preconditioner: Preconditioner
    rtol: float = 1e-4
    max_iterations: int | None = None
    restarts: int = 6
    window: int = 100
    checkpoint: Path | None = None
    checkpoint_seconds: float = 10.0
    progress: Callable[[float], None] | None = None
    callback: Callable[[Progress], None] | None = None
    start: np.ndarray | None = None
    product: str = "float64"


class _Iterate(NamedTuple):
    value: Array
    residual: Array
    direction: Array
    product: Array  # residual · preconditioned residual, per right-hand side


class Outcome(NamedTuple):
    """What the iterations gave.

    Attributes:
        value: ``(n, m)``.
        residual_norm: True relative residual of each right-hand side, from a fresh product.
        iterations: Iterations done, over all restarts.
        history: Largest relative residual before each iteration (by the recurrence).
        ranks: Rank of the preconditioner after each restart.
        built: The last preconditioner.
        seconds: Time of building preconditioners, and of iterating.
        note: What is to be said about the precision of products.
    """

    value: Float[np.ndarray, "n m"]
    residual_norm: Float[np.ndarray, " m"]
    iterations: int
    history: Float[np.ndarray, " iterations"]
    ranks: tuple[int, ...]
    built: LowRank
    seconds: tuple[float, float]
    note: str


def minimize(
    settings: Settings,
    operator: KernelOperator,
    rhs: Float[np.ndarray, "n m"],
    diagonal: Float[np.ndarray, " n"],
) -> Outcome:
    """Iterate to the tolerance, or as far as it goes."""
    limit = settings.max_iterations or 10 * operator.size
    saving = None
    if settings.checkpoint is not None:
        every = settings.checkpoint_seconds
        saving = checkpoint.Saving(settings.checkpoint, every, operator, rhs, diagonal)
    state = None if saving is None else saving.read()
    value = np.zeros_like(rhs) if settings.start is None else np.array(settings.start, np.float64)
    growth, history, ranks = 1.0, [], []
    if state is not None:
        value, growth, history = state.value, state.growth, list(state.history)
    building = iterating = 0.0
    scores = None
    best = np.inf, jnp.asarray(value)
    products = Products(settings.product, operator, diagonal)
    reporter = Reporter(settings.rtol, settings.progress, settings.callback)
    while True:
        began = time.perf_counter()
        reporter.prepare(len(history), history[-1] if history else 1.0)
        built = settings.preconditioner(operator, diagonal, growth=growth, scores=scores)
        ranks.append(built.rank)
        products.prepare(min(built.kept_bytes, built.spare_bytes))
        middle = time.perf_counter()
        run = _Run(settings, products, reporter, rhs, diagonal, built, growth, best, saving)
        last = len(ranks) > settings.restarts or built.rank in (0, operator.size)
        value, stalled = run.iterate(value, history, limit, may_stall=not last)
        building, iterating = building + middle - began, iterating + time.perf_counter() - middle
        if not stalled:
            break
        growth, scores, best = 1.2 * growth, built.scores, run.best
        del built, run  # the larger factor takes their memory
    mesh = mesh_of(operator)
    true = agree(mesh, _true_residual(products.operator, value, rhs, diagonal))
    if saving is not None:
        # One that did not get there can be gone on with, with a higher limit.
        if np.max(true) <= settings.rtol * SLACK:
            saving.remove()
        else:
            saving.write(value, growth, history)
    return Outcome(
        value, true, len(history), np.array(history), tuple(ranks), built, (building, iterating),
        products.note,
    )  # fmt: skip


class _Run:
    """Iterations with one preconditioner."""

    def __init__(self, settings, products, reporter, rhs, diagonal, built, growth, best, saving):
        self.saving = saving
        self.settings, self.built, self.growth, self.best = settings, built, growth, best
        self.reporter = reporter
        self.products, self.operator = products, products.operator
        self.rhs, self.diagonal = rhs, diagonal
        self.scale = np.maximum(np.linalg.norm(rhs, axis=0), np.finfo(float).tiny)

    def iterate(
        self, value: np.ndarray, history: list[float], limit: int, *, may_stall: bool
    ) -> tuple[np.ndarray, bool]:
        """The value and whether progress stalled; appends to the history.

        The value at the limit is the best one, that of a stall the last: in the norm of the matrix
        the last is the nearest.
        """
        settings = self.settings
        weights = jnp.asarray(self.diagonal)[:, None]
        state = self._begin(jnp.asarray(value), weights)
        norms: deque[float] = deque(maxlen=settings.window + 1)
        saved = time.perf_counter()
        begun = float(np.max(self._relative(state.residual)))
        self.safe, self.verified = state.value, begun
        while True:
            if self.products.lowered:
                state = self._guard(state, norms, weights)
            relative = self._relative(state.residual)
            worst = float(np.max(relative))
            if not worst <= _DIVERGED * max(begun, self.settings.rtol):
                what = f"diverged to a residual of {worst:.1e}" if worst < np.inf else "broke down"
                raise FloatingPointError(
                    f"conjugate gradients {what} after {len(history)} iterations: the matrix or "
                    "the right-hand side is not finite, or not positive definite to working "
                    "precision; raise the regularization or remove duplicate geometries"
                )
            if worst <= settings.rtol:
                # The recurrence drifts from the truth: believe only a fresh product.
                fresh = self._begin(state.value, weights)
                worst = float(np.max(self._relative(fresh.residual)))
                if worst <= settings.rtol:
                    return np.asarray(state.value), False
                state, relative = fresh, self._relative(fresh.residual)
            if worst < self.best[0]:
                self.best = worst, state.value
            if len(history) >= limit:
                return np.asarray(self.best[1]), False
            norms.append(worst)
            if may_stall and _stalled(norms):
                return np.asarray(state.value), True
            going = jnp.asarray(relative > settings.rtol)
            image = _product(self.products.current, state.direction)
            state = _step(state, image, weights, going)
            state = _redirect(state, self.built.apply(state.residual), going)
            history.append(worst)
            self.reporter.iterate(len(history), worst, self.built.rank)
            if self.saving is not None and time.perf_counter() - saved > self.saving.seconds:
                self.saving.write(np.asarray(state.value), self.growth, history)
                saved = time.perf_counter()

    def _guard(self, state: _Iterate, norms: deque[float], weights: Array) -> _Iterate:
        """With products in float32: go on from the true residual, or give them up."""
        worst = float(np.max(self._relative(state.residual)))
        if worst <= max(GAIN * self.verified, self.settings.rtol):
            fresh = self._begin(state.value, weights)
            true = float(np.max(self._relative(fresh.residual)))
            if true <= max(0.5 * self.verified, self.settings.rtol):
                self.safe, self.verified = state.value, true
                # The direction is kept: with new ones a solve took 146 iterations in place of 130.
                drift = self.built.apply(fresh.residual - state.residual)
                return fresh._replace(direction=state.direction + drift)
        elif not is_lost(worst, self.verified) and not _stalled(norms):
            return state
        self.products.fall_back(f"progress ended at a residual of {self.verified:.1e}")
        norms.clear()
        return self._begin(self.safe, weights)

    def _relative(self, residual: Array) -> np.ndarray:
        """Norms relative to the right-hand sides, the same in all processes."""
        return agree(mesh_of(self.operator), np.asarray(_norms(residual)) / self.scale)

    def _begin(self, value: Array, weights: Array) -> _Iterate:
        rhs = jnp.asarray(self.rhs)
        if np.asarray(value).any():
            residual = rhs - _product(self.operator, value) - weights * value
        else:
            residual = rhs
        direction = self.built.apply(residual)
        return _Iterate(value, residual, direction, jnp.sum(residual * direction, axis=0))


@jax.jit
def _step(state: _Iterate, image: Array, weights: Array, going: Array) -> _Iterate:
    image = image + weights * state.direction
    curvature = jnp.sum(state.direction * image, axis=0)
    length = jnp.where(going, state.product / jnp.where(going, curvature, 1.0), 0.0)
    value = state.value + length * state.direction
    return state._replace(value=value, residual=state.residual - length * image)


@jax.jit
def _redirect(state: _Iterate, preconditioned: Array, going: Array) -> _Iterate:
    product = jnp.sum(state.residual * preconditioned, axis=0)
    ratio = jnp.where(going, product / jnp.where(going, state.product, 1.0), 0.0)
    direction = preconditioned + ratio * state.direction
    return state._replace(
        direction=jnp.where(going, direction, state.direction),
        product=jnp.where(going, product, state.product),
    )


_norms = jax.jit(lambda x: jnp.linalg.norm(x, axis=0))


def _product(operator: KernelOperator, vectors: Array) -> Array:
    if vectors.shape[1] == 1:
        return operator.matvec(vectors[:, 0])[:, None]
    return jnp.stack([operator.matvec(column) for column in vectors.T], axis=1)


def _true_residual(operator, value, rhs, diagonal) -> np.ndarray:
    left = rhs - np.asarray(_product(operator, jnp.asarray(value))) - diagonal[:, None] * value
    norms = np.linalg.norm(rhs, axis=0)
    return np.linalg.norm(left, axis=0) / np.maximum(norms, np.finfo(float).tiny)


def _stalled(norms: deque[float]) -> bool:
    """Whether, over a full window, the residual went up as much as down.

    The residual of conjugate gradients is not monotonous; its decreases are to outweigh its
    increases.
    """
    if len(norms) < (norms.maxlen or 0):
        return False
    changes = np.diff(np.array(norms))
    total = np.abs(changes).sum()
    falling = -changes[changes < 0].sum() / total if total > 0 else 0.0
    return bool(falling <= 0.5)
