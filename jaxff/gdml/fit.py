"""Fitting kernel potentials: a linear solve with the model's own predictions as its matrix."""

import time
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxff.derivatives import observe
from jaxff.gdml import expansion as exp
from jaxff.gdml.operator import GdmlOperator
from jaxff.gdml.potential import KernelPotential
from jaxff.kernels.kernel import Kernel
from jaxff.linalg import solvers
from jaxff.linalg.solvers import Solver
from jaxff.potential import EnergyFn, bind
from jaxff.quantities import quantity
from jaxff.system import System
from jaxff.types import Array, Params

__all__ = ["ConstantFit", "FitInfo", "fit", "fit_constant", "residual_labels"]


class FitInfo(NamedTuple):
    """What a fit did; nothing that prediction needs.

    Attributes:
        size: Number of label components n.
        scale: Standard deviation of the force labels in eV/Å, by which all labels were divided.
        regularization: Value added to the diagonal, absolute on the scaled labels.
        residual_norm: Residual relative to the labels.
        iterations: Iterations of the solver, 0 for a direct one.
        converged: Whether the solver met its criterion.
        seconds: Wall time of the solve, assembly included.
        rank: Rank of the preconditioner, 0 without one.
        method: How the system was solved.
    """

    size: int
    scale: float
    regularization: float
    residual_norm: float
    iterations: int
    converged: bool
    seconds: float
    rank: int = 0
    method: str = "cholesky"


def fit(
    potential: KernelPotential,
    params: Params,
    labels: Mapping[str, Any],
    *,
    solver: Solver | Literal["auto"],
    regularization: float,
    relative: bool = False,
    noise: Mapping[str, float] | None = None,
) -> tuple[Params, FitInfo]:
    r"""Fit the coefficients of a kernel potential to labels at its references.

    Solves :math:`(K + \lambda + \sigma_\mathrm{noise}^2)\,\beta = y` with labels divided by one
    scale, the standard deviation of the forces. Energies among the labels constrain the fit; their
    mean is the constant. Without them the constant stays as it is: see :func:`fit_constant`.

    Args:
        potential: From :func:`jaxff.gdml.potential`.
        params: From its ``init``, which placed the references.
        labels: ``"forces"`` ``(N, atoms, 3)`` in eV/Å and, optionally, ``"energy"`` ``(N,)`` in eV.
        solver: For instance ``solvers.cholesky()``, or ``"auto"``: see
            :func:`jaxff.linalg.solvers.auto`.
        regularization: λ, dimensionless on the scaled labels.
        relative: Multiply λ by the mean diagonal of the matrix, which makes it independent of the
            length scale.
        noise: Standard deviation by label name, in the unit of the label: the relative weight of
            energies and forces.

    Returns:
        New parameters and a report.

    Raises:
        ValueError: For labels that are missing, unknown, of wrong shape or not finite, and for
            unusable numbers.
        RuntimeError: If the solver did not converge.

    Reference:
        Chmiela et al., Comput. Phys. Commun. 240, 38 (2019), doi:10.1016/j.cpc.2019.02.007.
    """
    kernel = _kernel(potential)
    references = _references(params)
    checked = _check_labels(labels, references)
    noise = dict(noise or {})
    _check_numbers(regularization, noise, checked)
    _check_smoothness(kernel, checked)
    operator = GdmlOperator(kernel, params["hyper"], references, "energy" in checked)

    constant = params["constant"]
    if "energy" in checked:
        constant = jnp.asarray(np.mean(checked["energy"]))
        checked["energy"] = checked["energy"] - np.mean(checked["energy"])
    scale = float(np.std(checked["forces"]))
    if scale == 0.0:
        raise ValueError("all force labels are equal: there is nothing to fit")
    if relative:
        regularization = regularization * float(jnp.mean(operator.diagonal()))
    variance = operator.ravel(
        {k: np.full(np.shape(v), (noise.get(k, 0.0) / scale) ** 2) for k, v in checked.items()}
    )
    start = time.perf_counter()
    solve = solvers.auto() if solver == "auto" else solver
    solution = solve(operator, operator.ravel(checked) / scale, regularization + variance)
    seconds = time.perf_counter() - start
    if not solution.converged:
        raise RuntimeError(
            f"the solver stopped at a relative residual of {solution.residual_norm:.2e} after "
            f"{solution.iterations} iterations: allow more, or raise the regularization"
        )
    coefficients = operator.unravel(jnp.asarray(solution.value * scale))
    new = {**params, "coefficients": coefficients, "constant": constant}
    new["expansion"] = _expand(kernel, params["hyper"], references, coefficients)
    info = FitInfo(
        operator.size, scale, float(regularization), solution.residual_norm,
        solution.iterations, solution.converged, seconds,
        solution.rank, solution.method,
    )  # fmt: skip
    return new, info


class ConstantFit(NamedTuple):
    """How energies agree with the integrated forces, per the fitted constant.

    Attributes:
        constant: Mean difference between labels and integrated forces, eV.
        slope: Least-squares slope of labels against predictions: near -1 gradients were given for
            forces, otherwise far from 1 units differ.
        correlation: Pearson correlation of labels and predictions.
        rmse: Remaining difference in eV.
        warnings: Sentences for the user; empty if all is well.
    """

    constant: float
    slope: float
    correlation: float
    rmse: float
    warnings: tuple[str, ...]


def fit_constant(
    potential: KernelPotential, params: Params, energies: Any
) -> tuple[Params, ConstantFit]:
    """Fix the integration constant by the energies of the references.

    The report says whether they fit the forces.
    Never refuses: with few or very inexact forces a low correlation is no proof of wrong labels.

    Args:
        potential: A kernel potential.
        params: Its fitted parameters.
        energies: Energies of the references in eV, ``(N,)``.

    Returns:
        Parameters with the constant, and the diagnostics.
    """
    references = _references(params)
    energies = np.asarray(energies, float)
    count = references.positions.shape[0]
    if energies.shape != (count,) or not np.all(np.isfinite(energies)):
        raise ValueError(
            f"energies must be finite and of shape ({count},), got shape {energies.shape}"
        )
    free = {**params, "constant": jnp.zeros_like(params["constant"])}
    predicted = np.asarray(_predict(bind(potential, free), references))
    constant = float(np.mean(energies - predicted))
    report = _diagnose(energies, predicted, constant)
    return {**params, "constant": jnp.asarray(constant)}, report


@jax.jit
def _predict(energy_fn: EnergyFn, systems: System) -> Array:
    return energy_fn(systems)


def _diagnose(energies: np.ndarray, predicted: np.ndarray, constant: float) -> ConstantFit:
    x, y = predicted - predicted.mean(), energies - energies.mean()
    rmse = float(np.sqrt(np.mean((y - x) ** 2)))
    if len(energies) < 3 or not x.any() or not y.any():
        return ConstantFit(constant, np.nan, np.nan, rmse, ())
    slope, correlation = float(x @ y / (x @ x)), float(x @ y / np.sqrt((x @ x) * (y @ y)))
    warnings = []
    if correlation < -0.5:
        warnings.append(
            "energies fall where forces say they rise: the force labels look like gradients"
        )
    elif correlation > 0.95 and abs(slope - 1.0) > 0.1:
        warnings.append(
            f"energies change {slope:.3g} times as fast as the forces say: check the units"
        )
    elif correlation < 0.95:
        warnings.append(
            f"energies and integrated forces correlate only to {correlation:.2f}: labels of "
            "different levels of theory, several disconnected basins, or too few geometries"
        )
    return ConstantFit(constant, slope, correlation, rmse, tuple(warnings))


def residual_labels(
    energy_fn: EnergyFn, systems: System, labels: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """Labels minus what a baseline predicts: what a kernel on top of it must learn.

    Fit the kernel to the result and combine with :func:`jaxff.add`.

    Args:
        energy_fn: The baseline; it must accept a stack.
        systems: Stack of the labelled systems.
        labels: Labels by name.
    """
    predicted = jax.jit(observe(energy_fn, tuple(labels)))(systems)
    return {name: np.asarray(value) - np.asarray(predicted[name]) for name, value in labels.items()}


def _kernel(potential: KernelPotential):
    kernel = getattr(potential, "kernel", None)
    if kernel is None:
        raise TypeError(
            f"fit needs a potential from gdml.potential(kernel), got {type(potential).__name__}"
        )
    return kernel


def _references(params: Params) -> System:
    if "references" not in params:
        raise ValueError(
            "these parameters hold no reference geometries (models read from sGDML files lack "
            "them): start again from potential.init"
        )
    return params["references"]


def _check_labels(labels: Mapping[str, Any], references: System) -> dict[str, np.ndarray]:
    shapes = {"forces": references.positions.shape, "energy": references.positions.shape[:1]}
    unknown = set(labels) - set(shapes)
    if unknown or "forces" not in labels:
        raise ValueError(f"labels must hold 'forces' and may hold 'energy', got {sorted(labels)}")
    checked = {}
    for name, value in labels.items():
        array = np.asarray(value, float)
        if array.shape != shapes[name]:
            raise ValueError(f"{name} must have shape {shapes[name]}, got {array.shape}")
        bad = np.flatnonzero(~np.isfinite(array.reshape(len(array), -1)).all(axis=1))
        if len(bad):
            raise ValueError(f"{name} of frame {bad[0]} is not finite ({len(bad)} such frames)")
        checked[name] = array
    return checked


def _check_smoothness(kernel: Kernel, labels: Mapping[str, Any]) -> None:
    """Refuse labels that need derivatives which the kernel does not have at its references."""
    needed = 2 * max(quantity(name).order for name in labels)
    if kernel.base.smoothness < needed:
        raise ValueError(
            f"labels {sorted(labels)} need a kernel with {needed} derivatives at coincident "
            f"points, {kernel.base.name} has {kernel.base.smoothness}"
        )


def _check_numbers(regularization: float, noise: dict, labels: Mapping[str, Any]) -> None:
    if not (np.isfinite(regularization) and regularization >= 0):
        raise ValueError(f"regularization must be finite and not negative, got {regularization}")
    for name, value in noise.items():
        if name not in labels or not 0 < value < np.inf:
            raise ValueError(
                f"noise must name fitted labels {sorted(labels)} with finite positive values, "
                f"got {name}: {value}"
            )


def _expand(kernel, hyper, references, coefficients):
    return exp.expand_compiled(kernel, hyper, references, coefficients)
