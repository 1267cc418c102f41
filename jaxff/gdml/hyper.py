r"""Hyperparameters by gradient descent through the solve.

Length scales, parameters of descriptors, regularization and noise are moved by any optimizer of
optax along the gradient of the log marginal likelihood, or of the force error of validation
geometries. Numbers that start positive move by their logarithms and stay positive. The dense matrix
and its derivatives are held by JAX: for small sets, some thousand labels.

Reference: Rasmussen & Williams, Gaussian Processes for Machine Learning (2006), section 5.4.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxff.derivatives import forces
from jaxff.gdml import labels as lab
from jaxff.gdml.generic import GenericOperator, tile
from jaxff.gdml.jets import Expanded, expand
from jaxff.gdml.label_checks import check, check_kernel, check_noise, without_constant
from jaxff.gdml.potential import KernelPotential, references_of
from jaxff.kernels.base import differentiable_by_parameters
from jaxff.kernels.listed import listed
from jaxff.system import System
from jaxff.types import Array, Float, Params

__all__ = ["Descent", "Problem", "descend", "log_likelihood", "problem", "validation_error"]


class Problem(NamedTuple):
    """Labels and references of a fit, without hyperparameters.

    Attributes:
        kernel: The kernel, with one more derivative than the fit needs, for its parameters.
        references: Stack of N systems.
        labels: Independent components by name; energies without their mean.
        directions: Of ``hessian_vector``.
        scale: By which labels are divided.
        names: The labels in the order of the rows.
    """

    kernel: Any
    references: System
    labels: dict[str, np.ndarray]
    directions: Any
    scale: float
    names: tuple[Any, ...]


def problem(potential: KernelPotential, params: Params, labels: Mapping[str, Any]) -> Problem:
    """Check labels as :func:`jaxff.gdml.fit` does and scale them in the same way.

    A kernel that is just smooth enough for its labels is smooth enough here: see
    :func:`jaxff.kernels.base.differentiable_by_parameters`.

    Raises:
        ValueError: For unusable labels, and those for which the kernel is not smooth enough.
    """
    references = references_of(params)
    checked, directions = check(labels, references)
    names = lab.ordered(labels)
    check_kernel(potential, references, names)
    checked, _ = without_constant(checked, names, references, params["constant"])
    scale = float(np.std(next(iter(checked.values()))))
    if scale == 0.0:
        raise ValueError("all labels are equal: there is nothing to learn")
    directions = None if directions is None else jnp.asarray(directions)
    kernel = differentiable_by_parameters(potential.kernel)
    return Problem(kernel, references, checked, directions, scale, names)


def _matrix(operator: GenericOperator) -> Float[Array, "n n"]:
    """The whole matrix as a function of hyperparameters that JAX can differentiate; small sets.

    Its rows and columns are those of the operator, which need not hold concrete numbers.
    """
    jets = operator.jets(np.arange(operator.size))
    found = tile(
        operator.kernel, operator.names, operator.hyper, operator.references,
        operator.directions, jets,
    )  # fmt: skip
    rows = jnp.swapaxes(found, 1, 2).reshape(operator.size, operator.size)
    order = np.empty(operator.size, int)
    order[operator.places.ravel()] = np.arange(operator.size)
    full = rows[order]
    return 0.5 * (full + full.T)


def _covariance(of: Problem, free: Mapping[str, Any]) -> tuple[GenericOperator, Array, Array]:
    """The operator, the regularised matrix, and the scaled labels."""
    operator = GenericOperator(
        of.kernel, dict(free["hyper"]), of.references, of.names, of.directions
    )
    noise = free.get("noise", {})
    variance = jnp.concatenate([
        jnp.full(np.size(of.labels[name]), (noise.get(name, 0.0) / of.scale) ** 2)
        for name in operator.shapes
    ])  # fmt: skip
    diagonal = free["regularization"] + variance
    covariance = _matrix(operator) + jnp.diag(diagonal)
    return operator, covariance, jnp.asarray(operator.ravel(of.labels)) / of.scale


def _internal(of: Problem) -> Any:
    """Labels without net forces and torques, as orthonormal columns ``(n, m)``, or ``None``."""
    if "forces" not in of.labels:
        return None
    from scipy.linalg import block_diag

    axes, rigid = lab.rigid_motions(of.references)
    rest = sum(np.size(value) for name, value in of.labels.items() if name != "forces")
    return block_diag(*axes[:, :, rigid:], np.eye(rest))  # forces are the first of all labels


def log_likelihood(of: Problem, free: Mapping[str, Any], amplitude: float | None = None) -> Array:
    r"""Log marginal likelihood of the scaled labels, differentiable by ``free``.

    Forces enter without the net force and torque of each reference, which no energy of internal
    coordinates has: as labels that are zero and predicted to be zero, the more of them the
    smaller the noise, they would speak for no noise at all.

    .. math:: -\tfrac12 y^T C^{-1} y - \tfrac12 \log\det C - \tfrac n2 \log 2\pi,\quad
       C = a\,(K + \Lambda)

    NaN where the matrix is not positive definite to working precision.

    Args:
        of: From :func:`problem`.
        free: ``hyper``, ``regularization`` and, optionally, ``noise`` by label, in its unit.
        amplitude: a; with ``None`` the most likely one.
    """
    covariance, labels = _covariance(of, free)[1:]
    basis = _internal(of)
    if basis is not None:
        covariance, labels = basis.T @ covariance @ basis, basis.T @ labels
    factor = jnp.linalg.cholesky(covariance)
    white = jax.scipy.linalg.solve_triangular(factor, labels, lower=True)
    size = labels.size
    quadratic = jnp.sum(white**2)
    level = quadratic / size if amplitude is None else jnp.asarray(amplitude)
    determinant = 2.0 * jnp.sum(jnp.log(jnp.diagonal(factor))) + size * jnp.log(level)
    return -0.5 * (quadratic / level + determinant + size * np.log(2.0 * np.pi))


def validation_error(
    of: Problem, free: Mapping[str, Any], systems: System, expected: Any, neighbors: Any = None
) -> Array:
    """Root mean square error of the forces at a stack of systems, eV/Å, differentiable by ``free``.

    Args:
        of: From :func:`problem`.
        free: See :func:`log_likelihood`.
        systems: Validation systems.
        expected: Their forces in eV/Å.
        neighbors: Their lists, of periodic systems if the kernel declares cutoffs.
    """
    operator, covariance, labels = _covariance(of, free)
    factor = jnp.linalg.cholesky(covariance)
    solution = jax.scipy.linalg.cho_solve((factor, True), labels) * of.scale
    coefficients = operator.resolved(operator.unravel(solution))
    jets = expand(of.kernel, operator.hyper, of.references, coefficients, of.directions)
    found = forces(Expanded(of.kernel, operator.hyper, jets))(listed(systems, neighbors))
    return jnp.sqrt(jnp.mean((found - jnp.asarray(expected)) ** 2))


class Descent(NamedTuple):
    """Result of a descent.

    Attributes:
        hyper: Hyperparameters of the best step.
        regularization: Regularization of the best step.
        noise: Noise levels of the best step, by label.
        history: Negative log likelihood per label, or validation error, before each step and after
            the last.
    """

    hyper: dict[str, Array]
    regularization: float
    noise: dict[str, float]
    history: np.ndarray


def descend(
    of: Problem,
    hyper: Mapping[str, Any],
    *,
    optimizer: Any,
    steps: int,
    regularization: float,
    noise: Mapping[str, float] | None = None,
    validation: tuple[System, Any] | tuple[System, Any, Any] | None = None,
    fixed: tuple[str, ...] = (),
    amplitude: float | None = None,
) -> Descent:
    """Move hyperparameters downhill, and keep the best that were met.

    Args:
        of: From :func:`problem`.
        hyper: Where to start.
        optimizer: From optax, such as ``optax.adam(0.05)``.
        steps: Number of steps.
        regularization: λ, where to start.
        noise: Standard deviations by label, where to start; labels that are not named stay exact.
        validation: Systems, their forces and, where needed, their lists; with ``None`` the
            likelihood is maximised.
        fixed: Hyperparameters that stay, and ``"regularization"`` or ``"noise"``.
        amplitude: See :func:`log_likelihood`.

    Returns:
        New hyperparameters, to be given to the ``init`` of the potential.

    Raises:
        ValueError: If nothing is free, no step is to be made, a name is unknown, or the
            regularization is not positive (zero where it is fixed).
        FloatingPointError: If the first matrix is not positive definite.
    """
    if steps < 1:
        raise ValueError(f"at least one step is needed, got {steps}")
    of.kernel.check_hyper(hyper)
    check_noise(noise or {}, of.labels)
    if not 0 <= regularization < np.inf or (regularization == 0 and "regularization" not in fixed):
        raise ValueError(
            f"regularization must be finite and positive, got {regularization}: a descent from "
            "zero could end below; to hold it at zero name it in fixed"
        )
    unknown = set(fixed) - {*hyper, "regularization", "noise", *(noise or {})}
    if unknown:
        raise ValueError(
            f"fixed must name hyperparameters {sorted(hyper)}, 'regularization' or 'noise', got "
            f"{sorted(unknown)}"
        )
    start = {
        **{f"hyper {name}": value for name, value in hyper.items()},
        "regularization": regularization,
        **{f"noise {name}": value for name, value in (noise or {}).items()},
    }
    start = {name: jnp.asarray(value, float) for name, value in start.items()}
    held = {name for name in start if {name, *name.split(" ")} & set(fixed)}
    logarithmic = {name for name, value in start.items() if bool(jnp.all(value > 0))}
    moving = {k: jnp.log(v) if k in logarithmic else v for k, v in start.items() if k not in held}
    if not moving:
        raise ValueError(f"everything is fixed: {sorted(fixed)}")

    def assemble(moving: dict[str, Array]) -> dict[str, Any]:
        now = {**start, **{k: jnp.exp(v) if k in logarithmic else v for k, v in moving.items()}}
        return {
            "hyper": {k[6:]: v for k, v in now.items() if k.startswith("hyper ")},
            "regularization": now["regularization"],
            "noise": {k[6:]: v for k, v in now.items() if k.startswith("noise ")},
        }

    size = sum(np.size(value) for value in of.labels.values())

    def loss(moving: dict[str, Array]) -> Array:
        free = assemble(moving)
        if validation is not None:
            return validation_error(of, free, *validation)
        return -log_likelihood(of, free, amplitude) / size

    best, history = _minimize(loss, moving, optimizer, steps)
    found = assemble(best)
    levels = {name: float(value) for name, value in found["noise"].items()}
    return Descent(found["hyper"], float(found["regularization"]), levels, history)


def _minimize(
    loss: Any, moving: dict[str, Array], optimizer: Any, steps: int
) -> tuple[dict[str, Array], np.ndarray]:
    """The best parameters met on the way, and the loss at each."""
    evaluate = jax.jit(jax.value_and_grad(loss))
    state = optimizer.init(moving)
    best, history = moving, []
    for step in range(steps + 1):
        value, gradient = evaluate(moving)
        if not np.isfinite(value):
            if not history:
                raise FloatingPointError(
                    "the kernel matrix is not positive definite where the descent starts: raise "
                    "the regularization, or shorten the length scales"
                )
            break  # a step too far: the best one before it stands
        if not history or value < min(history):
            best = moving
        history.append(float(value))
        if step < steps:
            update, state = optimizer.update(gradient, state, moving)
            moving = jax.tree.map(jnp.add, moving, update)
    return best, np.array(history)
