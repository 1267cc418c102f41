r"""Functions from any linear observations of them: kernel regression with operators.

Observed are values :math:`y_m = L_m f(x_m)` of linear operators. The solution is :math:`f(x) =
\sum_m \langle L_m^{(y)} k(x, y)|_{x_m}, \alpha_m\rangle` with :math:`(K + \lambda)\,\alpha = y` and
the blocks :math:`K_{mm'} = L_m L'_{m'} k`. Every operator of the solution can be evaluated.

Reference: Schmitz, Müller & Chmiela, J. Phys. Chem. Lett. 13, 10183 (2022),
doi:10.1021/acs.jpclett.2c02632; Särkkä, ICANN 2011, doi:10.1007/978-3-642-21738-8_20.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxff.kernels.observations import Operator
from jaxff.linalg import solvers
from jaxff.linalg.solvers import Solution, Solver
from jaxff.numerics import require_float64
from jaxff.types import Array, Float

__all__ = ["Fitted", "Observation", "RegressionOperator", "fit", "radial"]

PointKernel = Callable[[Array, Array], Array]


def radial(base: Any, lengthscale: float) -> PointKernel:
    """Kernel of two points from a base kernel of :mod:`jaxff.kernels`.

    Raises:
        ValueError: If the length scale is not positive.
    """
    if not 0.0 < lengthscale < np.inf:
        raise ValueError(f"the length scale must be a positive number, got {lengthscale}")
    return partial(_between, base, float(lengthscale))


def _between(base: Any, lengthscale: float, first: Array, second: Array) -> Array:
    return base.between(jnp.asarray(lengthscale), first, second)


class Observation(NamedTuple):
    """Values of one operator at some points.

    Attributes:
        operator: See :mod:`jaxff.kernels.observations`.
        points: ``(count, dim)``.
        values: ``(count, ...)``, or one value for all points.
        noise: Standard deviation of the values.
    """

    operator: Operator
    points: Any
    values: Any
    noise: float = 0.0


@dataclass(frozen=True, eq=False)
class RegressionOperator:
    """Matrix of a kernel under operators; a :class:`jaxff.linalg.operators.KernelOperator`.

    Attributes:
        kernel: Kernel of two points.
        operators: One per observation.
        points: Their points, each ``(count, dim)``.
    """

    kernel: PointKernel
    operators: tuple[Operator, ...]
    points: tuple[Array, ...]

    @cached_property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shape of one value of each operator."""
        flat = lambda point: jnp.sum(point * 0.0)  # noqa: E731
        return tuple(
            jax.eval_shape(operator(flat), points[0]).shape
            for operator, points in zip(self.operators, self.points, strict=True)
        )

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Rows of each observation."""
        counts = [len(points) for points in self.points]
        return tuple(n * int(np.prod(s)) for n, s in zip(counts, self.shapes, strict=True))

    @property
    def size(self) -> int:
        """Number of rows."""
        return sum(self.sizes)

    @cached_property
    def _matrix(self) -> np.ndarray:
        """Blocks on and below the diagonal, mirrored."""
        starts = np.concatenate([[0], np.cumsum(self.sizes)])
        matrix = np.empty((self.size, self.size), order="F")
        for i, (rows, at) in enumerate(zip(self.operators, self.points, strict=True)):
            for j, (columns, of) in enumerate(
                zip(self.operators[: i + 1], self.points, strict=False)
            ):
                block = np.asarray(_block(self.kernel, rows, columns, at, of))
                block = block.reshape(self.sizes[i], self.sizes[j])
                if i == j:
                    block = 0.5 * (block + block.T)
                matrix[starts[i] : starts[i + 1], starts[j] : starts[j + 1]] = block
                matrix[starts[j] : starts[j + 1], starts[i] : starts[i + 1]] = block.T
        return matrix

    def dense(
        self, *, lower: bool = False, progress: Callable[[float], None] | None = None
    ) -> np.ndarray:
        """The matrix in column order, in host memory."""
        del lower  # the upper triangle does no harm
        if progress is not None:
            progress(1.0)
        return self._matrix.copy(order="F")

    def diagonal(self) -> Float[Array, " n"]:
        """The diagonal."""
        return jnp.asarray(np.diag(self._matrix))

    def columns(self, index: np.ndarray) -> Float[np.ndarray, "n columns"]:
        """Selected columns in column order."""
        return np.asfortranarray(self._matrix[:, np.asarray(index)])

    def matvec(self, vector: Float[Array | np.ndarray, " n"]) -> Float[Array, " n"]:
        """What the solution with ``vector`` as coefficients gives for the observations."""
        split = np.cumsum(self.sizes)[:-1]
        coefficients = tuple(jnp.split(jnp.asarray(vector), split))
        parts = [
            _predict(self.kernel, self.operators, operator, self.points, coefficients, points)
            for operator, points in zip(self.operators, self.points, strict=True)
        ]
        return jnp.concatenate([jnp.ravel(part) for part in parts])


class Fitted(NamedTuple):
    """A function in the span of a kernel under operators.

    Attributes:
        kernel: The kernel.
        operators: Those of the observations.
        points: Their points.
        coefficients: One vector per observation.
        solution: What the solver did.
    """

    kernel: PointKernel
    operators: tuple[Operator, ...]
    points: tuple[Array, ...]
    coefficients: tuple[Array, ...]
    solution: Solution

    def __call__(self, point: Float[Array, " dim"]) -> Array:
        """Value at one point, to be differentiated and batched by JAX."""
        return _function(self.kernel, self.operators, self.points, self.coefficients)(point)

    def predict(self, operator: Operator, points: Any) -> Array:
        """Values of an operator of the function at points ``(count, dim)``."""
        return _predict(
            self.kernel, self.operators, operator, self.points, self.coefficients,
            jnp.asarray(points, float),
        )  # fmt: skip


def fit(
    observations: Sequence[Any],
    kernel: PointKernel,
    *,
    regularization: float = 1e-10,
    solver: Solver | None = None,
) -> Fitted:
    """The function that a kernel sees behind some observations.

    Args:
        observations: Tuples ``(operator, points, values)`` and, optionally, a noise level.
        kernel: Kernel of two points, such as ``radial(rbf, 1.0)``.
        regularization: λ ≥ 0, added to the diagonal.
        solver: From :mod:`jaxff.linalg.solvers`; default ``cholesky()``.

    Returns:
        The function, with what the solver did.

    Raises:
        ValueError: For observations of wrong shape or that are not finite, and unusable numbers.
        RuntimeError: If the solver did not converge.
        numpy.linalg.LinAlgError: If the matrix is not positive definite.
    """
    require_float64("kernel regression")
    if not observations:
        raise ValueError("at least one observation (operator, points, values) is needed, got none")
    if not 0.0 <= regularization < np.inf:
        raise ValueError(f"regularization must be finite and not negative, got {regularization}")
    given = [Observation(*observation) for observation in observations]
    points = tuple(_points(index, one) for index, one in enumerate(given))
    operator = RegressionOperator(kernel, tuple(one.operator for one in given), points)
    values = [
        _values(index, one, (len(at), *shape))
        for index, (one, at, shape) in enumerate(zip(given, points, operator.shapes, strict=True))
    ]
    variance = np.repeat([float(one.noise) ** 2 for one in given], operator.sizes)
    rhs = np.concatenate([value.ravel() for value in values])
    solution = (solver or solvers.cholesky())(operator, rhs, regularization + variance)
    if not solution.converged:
        raise RuntimeError(
            f"the solver stopped at a relative residual of {solution.residual_norm:.2e} after "
            f"{solution.iterations} iterations: allow more, or raise the regularization"
        )
    split = np.cumsum(operator.sizes)[:-1]
    coefficients = tuple(jnp.asarray(part) for part in np.split(solution.value, split))
    return Fitted(kernel, operator.operators, points, coefficients, solution)


def _points(index: int, observation: Observation) -> Array:
    points = np.asarray(observation.points, float)
    if points.ndim != 2 or not points.size or not np.isfinite(points).all():
        raise ValueError(
            f"points of observation {index} must be finite and of shape (count, dim), got "
            f"{points.shape}"
        )
    if not 0.0 <= observation.noise < np.inf:
        raise ValueError(f"noise of observation {index} must be from zero up, got {observation[3]}")
    return jnp.asarray(points)


def _values(index: int, observation: Observation, shape: tuple[int, ...]) -> np.ndarray:
    values = np.asarray(observation.values, float)
    if values.shape not in ((), shape):
        raise ValueError(
            f"values of observation {index} must have shape {shape}, as its operator gives them, "
            f"or be one number, got {values.shape}"
        )
    if not np.isfinite(values).all():
        raise ValueError(f"values of observation {index} are not finite")
    return np.broadcast_to(values, shape)


def _seen(kernel: PointKernel, operator: Operator, point: Array, weights: Array) -> Callable:
    """The function ``x -> <operator of k(x, ·) at a point, weights>``."""
    return lambda x: jnp.vdot(weights, jnp.ravel(operator(lambda y: kernel(x, y))(point)))


@partial(jax.jit, static_argnums=(0, 1, 2))
def _block(
    kernel: PointKernel, rows: Operator, columns: Operator, at: Array, of: Array
) -> Float[Array, "points out others in"]:
    """Entries for all pairs of points and components."""
    size = jax.eval_shape(columns(lambda y: kernel(at[0], y)), of[0]).size

    def pair(x: Array, y: Array) -> Array:
        one = lambda e: jnp.ravel(rows(_seen(kernel, columns, y, e))(x))  # noqa: E731
        return jax.vmap(one, out_axes=1)(jnp.eye(size))

    over_columns = jax.vmap(pair, (None, 0), out_axes=1)
    return jax.vmap(over_columns, (0, None))(at, of)


def _function(
    kernel: PointKernel, operators: Any, points: tuple[Array, ...], coefficients: tuple[Array, ...]
) -> Callable[[Array], Array]:
    def function(x: Array) -> Array:
        total = jnp.zeros(())
        for operator, of, weights in zip(operators, points, coefficients, strict=True):
            each = lambda y, w, op=operator: _seen(kernel, op, y, w)(x)  # noqa: E731
            total = total + jnp.sum(jax.vmap(each)(of, weights.reshape(len(of), -1)))
        return total

    return function


@partial(jax.jit, static_argnums=(0, 1, 2))
def _predict(
    kernel: PointKernel,
    operators: tuple[Operator, ...],
    operator: Operator,
    points: tuple[Array, ...],
    coefficients: tuple[Array, ...],
    queries: Array,
) -> Array:
    function = _function(kernel, operators, points, coefficients)
    return jax.vmap(operator(function))(queries)
