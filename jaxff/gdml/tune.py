"""Choice of the length scale by the forces of validation geometries."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxff.derivatives import forces
from jaxff.gdml.fit import FitInfo, UnconvergedError, fit
from jaxff.gdml.potential import KernelPotential
from jaxff.linalg.solvers import Solver
from jaxff.neighbors import neighbor_list
from jaxff.potential import EnergyFn, bind
from jaxff.system import System
from jaxff.types import Array, Params

__all__ = ["Trial", "Tuning", "tune"]


class Trial(NamedTuple):
    """One length scale: its fit and the RMSE of validation forces in eV/Å (NaN if not needed)."""

    lengthscale: float
    rmse: float
    info: FitInfo


class Tuning(NamedTuple):
    """Result of the search.

    Attributes:
        params: Parameters of the best trial.
        best: The best trial.
        trials: All trials, in the order they were made.
        on_boundary: Whether the best length scale is the smallest or largest one tried, with more
            possible beyond.
        refused: The length scale that could not be fitted, which ended the search, and why;
            ``None`` if there was none.
    """

    params: Params
    best: Trial
    trials: tuple[Trial, ...]
    on_boundary: bool
    refused: tuple[float, str] | None = None


def tune(
    potential: KernelPotential,
    systems: System,
    labels: Mapping[str, Any],
    valid_systems: System | None,
    valid_forces: Any,
    *,
    lengthscales: Sequence[float],
    hyper: Mapping[str, Any] | None = None,
    solver: Solver,
    regularization: float,
    relative: bool = False,
    noise: Mapping[str, float] | None = None,
    progress: Callable[[Trial], None] | None = None,
) -> Tuning:
    """Fit for each length scale and keep the one with the lowest validation force RMSE.

    Length scales are tried in ascending order, and the search stops as soon as the error rises, as
    the error has one minimum in practice. It also stops where the matrix is no longer positive
    definite, as too long length scales make it. A single length scale needs no validation set.

    Of a sum or product of kernels, each part has a length scale of its own: those that ``hyper``
    gives stay as they are, all others get the same candidate. To choose several, search for one
    after the other, or descend (:func:`jaxff.gdml.descend`).

    Args:
        potential: From :func:`jaxff.gdml.potential`.
        systems: Stack of training systems.
        labels: Training labels, see :func:`jaxff.gdml.fit`.
        valid_systems: Stack of validation systems.
        valid_forces: Their forces in eV/Å.
        lengthscales: Candidates, in the unit of the descriptor.
        hyper: Other hyperparameters, which stay as they are.
        solver: See :func:`jaxff.gdml.fit`, as the next three.
        regularization: λ on the scaled labels.
        relative: Whether λ is relative to the mean diagonal.
        noise: Standard deviation by label.
        progress: Called after each trial.

    Raises:
        ValueError: If there is no candidate, one is not positive, several lack a validation set, or
            its forces are of another shape or not finite; if ``hyper`` leaves no length scale to
            choose.
        numpy.linalg.LinAlgError: If not even the smallest length scale could be fitted, or
            ``UnconvergedError``.

    Reference:
        Chmiela et al., Comput. Phys. Commun. 240, 38 (2019), doi:10.1016/j.cpc.2019.02.007, model
        selection.
    """
    candidates = sorted({float(value) for value in lengthscales})
    if not candidates or not all(np.isfinite(v) and v > 0 for v in candidates):
        raise ValueError(f"length scales must be positive numbers, got {list(lengthscales)}")
    if len(candidates) > 1 and valid_systems is None:
        raise ValueError(
            f"choosing among {len(candidates)} length scales needs a validation set; give one, or "
            "a single length scale"
        )
    valid_lists = None
    if valid_systems is not None:
        valid_forces = _checked(valid_forces, valid_systems)
        if potential.cutoffs and valid_systems.cell is not None:
            valid_lists = neighbor_list(potential.cutoffs).allocate_stack(valid_systems)
    free = _free(potential.kernel, hyper or {})
    start = {**(hyper or {}), **dict.fromkeys(free, candidates[0])}
    params = potential.init(jax.random.key(0), systems, hyper=start)
    trials: list[Trial] = []
    best_params, best, refused = params, 0, None
    for value in candidates:
        scales = dict.fromkeys(free, jnp.asarray(value))
        start = {**params, "hyper": {**params["hyper"], **scales}}
        try:
            fitted, info = fit(
                potential, start, labels,
                solver=solver, regularization=regularization, relative=relative, noise=noise,
            )  # fmt: skip
        except (np.linalg.LinAlgError, UnconvergedError) as error:
            if not trials:
                raise
            refused = value, str(error)
            break
        rmse = np.nan
        if valid_systems is not None:
            predicted = _predict(bind(potential, fitted), valid_systems, valid_lists)
            difference = predicted - jnp.asarray(valid_forces)
            rmse = float(jnp.sqrt(jnp.mean(difference**2)))
        trial = Trial(value, rmse, info)
        trials.append(trial)
        if progress is not None:
            progress(trial)
        if len(trials) == 1 or rmse < trials[best].rmse:
            best_params, best = fitted, len(trials) - 1
        else:
            break
    # Beyond a refused length scale there is nothing to try.
    ends = (0,) if refused else (0, len(trials) - 1)
    on_boundary = len(candidates) > 1 and best in ends
    return Tuning(best_params, trials[best], tuple(trials), on_boundary, refused)


def _free(kernel: Any, hyper: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the length scales that are sought.

    Raises:
        ValueError: If there are none.
    """
    names = tuple(kernel.hyper_names)
    if "lengthscale" in names:
        return ("lengthscale",)
    scales = tuple(name for name in names if name.rpartition(".")[2] == "lengthscale")
    free = tuple(name for name in scales if name not in hyper)
    if not free:
        raise ValueError(
            f"there is no length scale to choose: the kernel has {scales or 'none'}, hyper fixes "
            f"{sorted(hyper)}; leave out those that are sought"
        )
    return free


def _checked(forces: Any, systems: System) -> np.ndarray:
    found = np.asarray(np.nan if forces is None else forces, float)
    if found.shape != systems.positions.shape or not np.all(np.isfinite(found)):
        raise ValueError(
            f"valid_forces must be finite and of shape {systems.positions.shape}, got {found.shape}"
        )
    return found


@jax.jit
def _predict(energy_fn: EnergyFn, systems: System, neighbors: Any) -> Array:
    return forces(energy_fn)(systems, neighbors)
