r"""Errors of second derivatives along random directions, without any Hessian of the model.

For directions v of independent signs, :math:`E|\Delta v|^2 = \sum_{ab}\Delta_{ab}^2`: a squared
loss on :math:`\Delta v/\sqrt{3n}`, averaged over its 3n components, has the mean squared error of
the :math:`(3n)^2` elements of the Hessian as its expectation. The structures of a pack do not
interact, so one product serves all of them; it costs about two evaluations of the forces.

Labels are either the whole ``"hessian"`` (eV/Å²), of which random products are taken in every step,
or products made beforehand: ``"hessian_vector"`` along the directions in the label
``"hessian_direction"``, both ``(atoms, 3)``.

Reference:
    Hutchinson, Commun. Stat. Simul. Comput. 18, 1059 (1989), doi:10.1080/03610918908812806.
"""

import jax
import jax.numpy as jnp

from jaxff.data.batch import Batch
from jaxff.derivatives import hessian_vector
from jaxff.potential import EnergyFn
from jaxff.system import System, sum_atoms, to_atoms
from jaxff.types import Array, Bool, Float

__all__ = ["curvature_errors", "hessian_product"]


def curvature_errors(
    energy_fn: EnergyFn,
    batch: Batch,
    label: str,
    mask: Bool[Array, "*structures"],
    probes: int,
    key: Array | None,
) -> Float[Array, "*atoms components"]:
    r"""Errors :math:`\Delta v/\sqrt{3n}` in eV/Å², with the components of all probes last.

    Args:
        energy_fn: Energy function.
        batch: Without a leading axis.
        label: ``"hessian"`` or ``"hessian_vector"``.
        mask: Structures that have the label; errors are zero elsewhere.
        probes: Directions per structure, for ``"hessian"``.
        key: Of the directions, for ``"hessian"``.

    Raises:
        ValueError: If key, directions or shapes do not fit.
    """
    system = batch.system
    shape, dtype = system.positions.shape, system.positions.dtype
    if label == "hessian":
        if key is None:
            raise ValueError("a loss on the Hessian draws random directions: give a key")
        directions = jax.random.rademacher(key, (probes, *shape), dtype)
        products = jax.vmap(lambda v: hessian_product(system, batch.labels[label], v))(directions)
    else:
        products, directions = (_of_positions(batch, name)[None] for name in (label, _ALONG))
    real = (to_atoms(system, mask) & (system.numbers > 0))[..., None]
    directions = jnp.where(real, directions, 0)
    found = jax.vmap(lambda v: hessian_vector(energy_fn)(system, v, batch.neighbors))(directions)
    atoms = sum_atoms(system, jnp.ones(system.numbers.shape, dtype))
    scale = to_atoms(system, jnp.sqrt(3.0 * jnp.maximum(atoms, 1)))[..., None]
    errors = jnp.where(real, (found - products) / scale, 0)
    return jnp.moveaxis(errors, 0, -1).reshape(*shape[:-1], -1)


_ALONG = "hessian_direction"


def _of_positions(batch: Batch, name: str) -> Array:
    value = batch.labels.get(name)
    if value is None or value.shape != batch.system.positions.shape:
        got = "nothing" if value is None else value.shape
        raise ValueError(
            f"labels of {name!r} must have the shape of the positions, "
            f"{batch.system.positions.shape}; got {got}"
        )
    return value


def hessian_product(system: System, hessian: Array, vector: Array) -> Float[Array, "*atoms 3"]:
    """Labelled Hessians times a vector field.

    Args:
        system: A stack, or a pack.
        hessian: ``(*batch, n, 3, n, 3)`` for a stack. For a pack ``(atoms, 3, most, 3)``: rows are
            atoms of the pack, columns are counted from the first atom of the same structure;
            those beyond its last one do not count.
        vector: Of the shape of the positions.

    Raises:
        ValueError: If the shape of the labels does not fit.
    """
    shape = system.positions.shape
    columns = hessian.shape[-2] if hessian.ndim == len(shape) + 2 else -1
    wanted = (*shape, columns if system.is_packed else shape[-2], 3)
    if hessian.shape != wanted:
        layout = (
            "(atoms, 3, most, 3), columns counted within the structure"
            if system.is_packed
            else "(*batch, atoms, 3, atoms, 3)"
        )
        raise ValueError(f"labels of 'hessian' must be {layout}; got {hessian.shape} for {shape}")
    if system.structure is None:
        return jnp.einsum("...iajb,...jb->...ia", hessian, vector)
    first = jax.ops.segment_min(jnp.arange(shape[0]), system.structure, system.batch_shape[0])
    index = first[system.structure][:, None] + jnp.arange(columns)
    owner = jnp.take(system.structure, index, mode="fill", fill_value=-1)
    others = jnp.take(vector, index, axis=0, mode="clip")
    others = jnp.where((owner == system.structure[:, None])[..., None], others, 0)
    return jnp.einsum("iajb,ijb->ia", hessian, others)
