"""Predictions beside labels: shapes, units of comparison, and what does not count."""

import jax.numpy as jnp

from jaxff.cell import volume
from jaxff.data.batch import Batch
from jaxff.derivatives import observe
from jaxff.potential import EnergyFn
from jaxff.quantities import QUANTITIES
from jaxff.system import System, sum_atoms, to_atoms
from jaxff.training.batch import present
from jaxff.types import Array, Float

__all__ = ["atom_counts", "label_errors", "predict_labels", "with_sound_cells"]


def predict_labels(energy_fn: EnergyFn, batch: Batch, labels: tuple[str, ...]) -> dict[str, Array]:
    """Predictions in the shapes of the labels, without products with the Hessian."""
    names = {name for name in labels if name not in ("hessian", "hessian_vector")}
    # Through the virial: structures without a cell may be among those with one.
    batch = batch._replace(system=with_sound_cells(batch.system))
    observed = (names - {"stress"}) | ({"virial"} if "stress" in names else set())
    if not observed:
        return {}
    values = observe(energy_fn, tuple(sorted(observed)))(batch.system, batch.neighbors)
    if "stress" in names:
        if batch.system.cell is None:
            raise ValueError("the loss needs stress, but the systems have no cell")
        size = volume(batch.system.cell)
        size = jnp.where(present(batch, "stress"), size, 1.0)[..., None, None]
        values["stress"] = -values["virial"] / size
    return {name: values[name] for name in names}


def label_errors(batch: Batch, name: str, predicted: Array, mask: Array) -> Array:
    """Prediction minus label, zero where there is none.

    Raises:
        ValueError: If the shapes differ.
    """
    label = batch.labels[name]
    if label.shape != predicted.shape:
        raise ValueError(
            f"labels of {name!r} must have the shape of the predictions, {predicted.shape}; got "
            f"{label.shape}"
        )
    return masked(batch.system, predicted - label, mask, QUANTITIES[name].per_atom)


def masked(system: System, error: Array, mask: Array, per_atom: bool) -> Array:
    """Zero, with zero gradient, for structures without the label and for padding atoms."""
    if per_atom:
        mask = to_atoms(system, mask) & (system.numbers > 0)
    return jnp.where(mask.reshape(mask.shape + (1,) * (error.ndim - mask.ndim)), error, 0)


def atom_counts(system: System) -> Float[Array, "*structures"]:
    """Atoms of each structure, without padding."""
    return sum_atoms(system, jnp.ones(system.numbers.shape, system.positions.dtype))


def with_sound_cells(system: System) -> System:
    """Unit cells for padding structures, so that nothing divides by their volume."""
    if system.cell is None or system.structure_mask is None:
        return system
    unit = jnp.eye(3, dtype=system.cell.dtype)
    return system.replace(cell=jnp.where(system.structure_mask[:, None, None], system.cell, unit))
