"""Fitting kernel potentials: a linear solve with the model's own predictions as its matrix."""

import functools
import time
import warnings
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxff.derivatives import observe
from jaxff.gdml import expansion as exp
from jaxff.gdml import jets
from jaxff.gdml import labels as lab
from jaxff.gdml.generic import GenericOperator
from jaxff.gdml.label_checks import (
    check,
    check_kernel,
    check_noise,
    defined,
    shown,
    without_constant,
)
from jaxff.gdml.observable import Observable
from jaxff.gdml.operator import GdmlOperator
from jaxff.gdml.potential import KernelPotential, is_of_one_cell, references_of
from jaxff.gdml.radial_operator import operator_of
from jaxff.kernels.kernel import Kernel
from jaxff.kernels.protocol import stage
from jaxff.linalg import solvers
from jaxff.linalg.solvers import Solver
from jaxff.numerics import select
from jaxff.potential import EnergyFn
from jaxff.system import System
from jaxff.types import Array, Params

__all__ = ["FitInfo", "UnconvergedError", "fit", "residual_labels"]


class UnconvergedError(RuntimeError):
    """The solver stopped before its tolerance."""


class FitInfo(NamedTuple):
    """What a fit did; nothing that prediction needs.

    Attributes:
        size: Number of label components n.
        scale: Standard deviation of the force labels in eV/Å, or, without any, of the first label
            in the order of :data:`jaxff.gdml.labels.LABELS`, by which all labels were divided.
        regularization: Value added to the diagonal, absolute on the scaled labels.
        residual_norm: Residual relative to the labels.
        iterations: Iterations of the solver, 0 for a direct one.
        converged: Whether the solver met its criterion.
        seconds: Wall time of the solve, assembly included.
        rank: Rank of the preconditioner, 0 without one.
        method: How the system was solved.
        noise: Standard deviations that were given, by label, in its unit.
        observables: Labels that are not of the library.
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
    noise: Mapping[str, float] = MappingProxyType({})
    observables: tuple[Observable, ...] = ()


def fit(
    potential: KernelPotential,
    params: Params,
    labels: Mapping[Any, Any],
    *,
    solver: Solver | Literal["auto"],
    regularization: float,
    relative: bool = False,
    noise: Mapping[str, float] | None = None,
    mesh: Mesh | None = None,
    unconverged: str = "raise",
) -> tuple[Params, FitInfo]:
    r"""Fit the coefficients of a kernel potential to labels at its references.

    Solves :math:`(K + \lambda + \sigma_\mathrm{noise}^2)\,\beta = y` with labels divided by one
    scale, the standard deviation of the forces. Energies among the labels constrain the fit; their
    mean is the constant. Without them the constant stays as it is: see :func:`fit_constant`.

    Labels are any of these, together:

    - ``forces`` ``(N, atoms, 3)`` in eV/Å and ``energy`` ``(N,)`` in eV;
    - ``hessian`` ``(N, atoms, 3, atoms, 3)`` in eV/Å², of which the symmetric part is fitted;
    - ``hessian_vector``, a pair of directions and of products of the Hessian with these, each
      ``(N, atoms, 3)`` or, several, ``(N, directions, atoms, 3)``;
    - ``stress`` (eV/Å³, with a cell) and ``virial`` (eV), ``(N, 3, 3)``;
    - ``dipole`` ``(N, 3)`` in e·Å, of a kernel that reads the electric field;
    - any :class:`jaxff.gdml.Observable`, a linear operator on the energy, with its values.

    Forces and energies of a radial kernel take the fast path of :mod:`jaxff.gdml.operator`, its
    other labels that of :mod:`jaxff.gdml.radial_operator`, all other kernels, and labels that users
    define, that of :mod:`jaxff.gdml.generic`.

    Args:
        potential: From :func:`jaxff.gdml.potential`.
        params: From its ``init``, which placed the references.
        labels: Values by name, for all references.
        solver: For instance ``solvers.cholesky()``, or ``"auto"``: see
            :func:`jaxff.linalg.solvers.auto`.
        regularization: λ, dimensionless on the scaled labels.
        relative: Multiply λ by the mean diagonal of the matrix, which makes it independent of the
            length scale.
        noise: Standard deviation by label name, in the unit of the label: the relative weight of
            energies and forces.
        mesh: Devices, along one axis, over which the iterative solver shares its work and the
            factor of its preconditioner. In several processes (``jax.distributed``) each makes the
            same call with all references and labels, and gets the whole result. A Cholesky
            factorisation is not shared.
        unconverged: ``"raise"``, or ``"warn"`` to get the best coefficients found all the same,
            with ``converged`` false in the report.

    Returns:
        New parameters and a report.

    Raises:
        ValueError: For labels that are missing, unknown, of wrong shape or not finite, and for
            unusable numbers.
        UnconvergedError: If the solver did not converge, unless only a warning was asked for.

    Warns:
        UserWarning: If to working precision the kernel sees no difference between references, or
            nothing in common, as happens with length scales of a wrong magnitude.

    Reference:
        Chmiela et al., Comput. Phys. Commun. 240, 38 (2019), doi:10.1016/j.cpc.2019.02.007.
    """
    kernel = _kernel(potential)
    references = references_of(params)
    checked, directions = check(labels, references)
    names = lab.ordered(labels)
    if unconverged not in ("raise", "warn"):
        raise ValueError(f"unconverged must be 'raise' or 'warn', got {unconverged!r}")
    noise = dict(noise or {})
    if not (np.isfinite(regularization) and regularization >= 0):
        raise ValueError(f"regularization must be finite and not negative, got {regularization}")
    check_noise(noise, checked)
    check_kernel(potential, references, names)
    _warn_of_length_scales(kernel, params["hyper"], references)
    operator = _operator(kernel, params["hyper"], references, names, directions, mesh)
    checked, constant = without_constant(checked, names, references, params["constant"])
    first = next(iter(checked))
    with np.errstate(over="ignore"):
        scale = float(np.std(checked[first]))
    if not np.isfinite(scale):
        raise ValueError(
            f"the standard deviation of the {first} labels is no number in float64, got labels up "
            f"to {np.abs(checked[first]).max():.1e}: check their unit"
        )
    if scale == 0.0:
        raise ValueError(
            f"all {'force' if first == 'forces' else first} labels are equal: there is nothing to "
            "fit"
        )
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
        message = (
            f"the solver stopped at a relative residual of {solution.residual_norm:.2e} after "
            f"{solution.iterations} iterations: allow more, or raise the regularization"
        )
        if unconverged == "raise":
            raise UnconvergedError(message)
        warnings.warn(message, stacklevel=2)
    coefficients = operator.unravel(jnp.asarray(solution.value * scale))
    coefficients = lab.resolved(names, references, coefficients)
    new = {**params, "coefficients": coefficients, "constant": constant}
    for name in ("directions", "one_cell"):
        new.pop(name, None)
    if is_of_one_cell(kernel, references, names):
        new["one_cell"] = ()
    if directions is not None:
        new["directions"] = jnp.asarray(directions)
    expand = exp.expand_compiled if exp.supports(kernel) else jets.expand_compiled
    new["expansion"] = expand(
        kernel, params["hyper"], references, coefficients, new.get("directions")
    )
    info = FitInfo(
        operator.size, scale, float(regularization), solution.residual_norm,
        solution.iterations, solution.converged, seconds,
        solution.rank, solution.method, noise, defined(names),
    )  # fmt: skip
    return new, info


def residual_labels(
    energy_fn: EnergyFn, systems: System, labels: Mapping[Any, Any], neighbors: Any = None
) -> dict[Any, np.ndarray]:
    """Labels minus what a baseline predicts: what a kernel on top of it must learn.

    Fit the kernel to the result and combine with :func:`jaxff.add`.

    Args:
        energy_fn: The baseline; it must accept a stack.
        systems: Stack of the labelled systems.
        labels: Labels by name.
        neighbors: Lists of the stack, if the baseline needs some.
    """
    named = tuple(label for label in labels if isinstance(label, str))
    predicted: dict[Any, Any] = {}
    if named:
        predicted |= jax.jit(observe(energy_fn, named))(systems, neighbors)
    for label in defined(tuple(labels)):
        one = lambda system, lists, label=label: label(energy_fn, system, lists)  # noqa: E731
        predicted[label] = jax.jit(jax.vmap(one))(systems, neighbors)
    return {label: np.asarray(own) - np.asarray(predicted[label]) for label, own in labels.items()}


def _kernel(potential: KernelPotential):
    kernel = getattr(potential, "kernel", None)
    if kernel is None:
        raise TypeError(
            f"fit needs a potential from gdml.potential(kernel), got {type(potential).__name__}"
        )
    return kernel


_RESOLUTION = 1e-12
"""Relative difference of kernel values, or correlation, that counts as none."""


@functools.partial(jax.jit, static_argnums=0)
def _values(kernel: Any, hyper: Any, systems: System) -> Array:
    """Kernel of all pairs of a stack; a query at a time, which large groups make large."""
    query, reference, compare = (stage(kernel, n) for n in ("query", "reference", "compare"))
    references = jax.vmap(lambda system: reference(hyper, system))(systems)

    def row(system: System) -> Array:
        own = query(hyper, system)
        return jax.vmap(lambda other: compare(hyper, own, other))(references)

    return jax.lax.map(row, systems)


def _warn_of_length_scales(kernel: Any, hyper: Any, references: System) -> None:
    """Warn of a kernel that tells nothing, by four of the references."""
    count = references.positions.shape[0]
    picked = np.array([0, min(1, count - 1), count // 2, count - 1])
    systems = select(references, picked)
    values = np.asarray(_values(kernel, hyper, systems))
    positions = np.asarray(systems.positions)
    moved = np.abs(positions[:, None] - positions).max((2, 3)) > 0
    if not moved.any() or not np.isfinite(values).all():
        return  # one geometry alone, or numbers that the solver refuses
    given = ", ".join(f"{name} = {float(np.ravel(v)[0]):.3g}" for name, v in hyper.items())
    if np.abs(values - values[0, 0]).max() <= _RESOLUTION * abs(values[0, 0]):
        warnings.warn(
            f"with {given} the kernel gives the same for all references to {_RESOLUTION:g}, so "
            "that the fit rests on rounding errors: shorten the length scale, to about the "
            "distance of two references in the features",
            stacklevel=3,
        )
    size = np.sqrt(np.outer(np.diag(values), np.diag(values)))
    if (np.abs(values) <= _RESOLUTION * size)[moved].all():
        warnings.warn(
            f"with {given} the kernel finds nothing in common between different references (below "
            f"{_RESOLUTION:g}), so that nothing is predicted elsewhere: lengthen the length scale, "
            "to about the distance of two references in the features",
            stacklevel=3,
        )


def _operator(
    kernel: Any,
    hyper: Any,
    references: System,
    names: tuple[lab.Label, ...],
    directions: Any,
    mesh: Mesh | None,
) -> GdmlOperator | GenericOperator:
    """The faster operator that holds for a kernel and some labels."""
    closed = isinstance(kernel, Kernel) and exp.supports(kernel)
    if closed and "forces" in names and not set(names) - {"forces", "energy"}:
        return GdmlOperator(kernel, hyper, references, "energy" in names, mesh)
    if mesh is not None:
        raise ValueError(
            "only fits of one radial kernel to forces (and energies) are shared out over a mesh, "
            f"got {type(kernel).__name__} with the labels {shown(names)}: leave out mesh"
        )
    along = None if directions is None else jnp.asarray(directions)
    return operator_of(kernel, hyper, references, names, along)
