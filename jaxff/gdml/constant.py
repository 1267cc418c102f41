"""The constant of an energy that was fitted to forces."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxff.gdml.potential import KernelPotential, references_of
from jaxff.potential import EnergyFn, bind
from jaxff.system import System
from jaxff.types import Array, Params

__all__ = ["ConstantFit", "fit_constant"]


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
    references = references_of(params)
    energies = np.asarray(energies, float)
    count = references.positions.shape[0]
    if energies.shape != (count,) or not np.all(np.isfinite(energies)):
        raise ValueError(
            f"energies must be finite and of shape ({count},), got shape {energies.shape}"
        )
    free = {**params, "constant": jnp.zeros_like(params["constant"])}
    lists = params.get("reference_neighbors")
    predicted = np.asarray(_predict(bind(potential, free), references, lists))
    constant = float(np.mean(energies - predicted))
    report = _diagnose(energies, predicted, constant)
    return {**params, "constant": jnp.asarray(constant)}, report


@jax.jit
def _predict(energy_fn: EnergyFn, systems: System, neighbors: Any) -> Array:
    return energy_fn(systems, neighbors)


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
