r"""Atom-centred symmetry functions of Behler and Parrinello."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxff.descriptors.atom_centred import WithCutoffFunction
from jaxff.descriptors.environments import (
    Surroundings,
    check_cutoff,
    cutoff_function,
    surroundings,
)
from jaxff.elements import distinct_numbers
from jaxff.numerics import safe_norm
from jaxff.system import System
from jaxff.types import Array, Float

__all__ = ["SymmetryFunctions", "acsf", "cosines", "per_element", "per_pair_of_elements"]

_Angular = tuple[tuple[float, int, float], ...]


@dataclass(frozen=True)
class SymmetryFunctions(WithCutoffFunction):
    r"""Descriptor: radial functions per element, angular ones per pair of elements.

    With :math:`c = \cos\theta_{jik}` and the cutoff function :math:`f`,

    * G1 :math:`\sum_j f(d_{ij})`, always the first;
    * G2 :math:`\sum_j e^{-\eta(d_{ij}-R_s)^2} f(d_{ij})`;
    * G3 :math:`\sum_j \cos(\kappa d_{ij}) f(d_{ij})`;
    * G4 :math:`2^{1-\zeta}\sum_{j<k}(1+\lambda c)^\zeta
      e^{-\eta(d_{ij}^2+d_{ik}^2+d_{jk}^2)}f(d_{ij})f(d_{ik})f(d_{jk})`;
    * G5, as G4 without what has :math:`d_{jk}`.

    Features ``(atoms, size)``: for each element G1, G2, G3; then for each pair of elements (0,0),
    (1,0), (1,1), (2,0), … G4, G5. Two neighbours in one place, or one in the place of the centre,
    have :math:`c = 0`; atoms without neighbours and padding atoms have zeros.

    Attributes:
        elements: Atomic numbers, in the order of the features.
        cutoff: Radius in Å.
        g2: η in Å⁻² and :math:`R_s` in Å.
        g3: κ in Å⁻¹.
        g4: η in Å⁻², ζ (a whole number, so that straight angles are smooth) and λ.
        g5: As ``g4``.
        cutoff_function: ``"bump"`` (all derivatives are continuous), ``"polynomial"`` or
            ``"smoothstep"`` (two are) or ``"cosine"`` (as published: the second jumps).
        max_neighbors: Slots for neighbours, needed in compiled code for periodic systems whose
            lists have no rows; more neighbours give NaN.

    Reference:
        Behler & Parrinello, Phys. Rev. Lett. 98, 146401 (2007), doi:10.1103/PhysRevLett.98.146401;
        Behler, J. Chem. Phys. 134, 074106 (2011), doi:10.1063/1.3553717.
    """

    elements: tuple[int, ...]
    cutoff: float
    g2: tuple[tuple[float, float], ...] = ()
    g3: tuple[float, ...] = ()
    g4: _Angular = ()
    g5: _Angular = ()
    cutoff_function: str = "bump"
    max_neighbors: int | None = None

    @property
    def cutoffs(self) -> tuple[float, ...]:
        """Radii in Å of the lists that it takes."""
        return (self.cutoff,)

    @property
    def size(self) -> int:
        """Features per atom."""
        count = len(self.elements)
        radial = 1 + len(self.g2) + len(self.g3)
        return count * radial + count * (count + 1) // 2 * (len(self.g4) + len(self.g5))

    def __call__(
        self,
        system: System,
        neighbors: Any = None,
        *,
        g2: Float[Array, "count 2"] | None = None,
        g3: Float[Array, " count"] | None = None,
        g4_widths: Float[Array, " count"] | None = None,
        g5_widths: Float[Array, " count"] | None = None,
    ) -> Float[Array, "atoms features"]:
        """Features of a single system or a pack.

        Args:
            system: Atoms of the listed elements.
            neighbors: Lists for ``cutoffs``; ``None`` for all pairs of a molecule.
            g2: Takes the place of the attribute, so that it can be optimised.
            g3: Likewise.
            g4_widths: Take the place of η in ``g4``.
            g5_widths: Take the place of η in ``g5``.
        """
        near = surroundings(system, self.cutoff, self.elements, neighbors, self.max_neighbors)
        values = cutoff_function(self.cutoff_function, near.distances, self.cutoff)
        table = jnp.asarray(self.g2).reshape(-1, 2) if g2 is None else g2
        waves = jnp.asarray(self.g3).reshape(-1) if g3 is None else g3
        features = [per_element(near.species, _radial(near.distances, values, table, waves))]
        if self.g4 or self.g5:
            widths = (
                _column(self.g4) if g4_widths is None else g4_widths,
                _column(self.g5) if g5_widths is None else g5_widths,
            )
            features.append(per_pair_of_elements(near.species, self._angular(near, values, widths)))
        return jnp.concatenate(features, axis=-1)

    def _angular(
        self, near: Surroundings, values: Array, widths: tuple[Array, Array]
    ) -> Float[Array, "atoms slots slots features"]:
        """Terms of all pairs of neighbours."""
        square = near.distances**2
        sides = square[:, :, None] + square[:, None, :]
        cutoff = values[:, :, None] * values[:, None, :]
        angles = cosines(near)
        features = []
        if self.g4:
            third = safe_norm(near.vectors[:, :, None] - near.vectors[:, None, :])
            closed = cutoff * cutoff_function(self.cutoff_function, third, self.cutoff)
            decay = jnp.exp(-widths[0] * (sides + third**2)[..., None])
            features.append(_turns(self.g4, angles) * decay * closed[..., None])
        if self.g5:
            decay = jnp.exp(-widths[1] * sides[..., None])
            features.append(_turns(self.g5, angles) * decay * cutoff[..., None])
        return jnp.concatenate(features, axis=-1)


def _column(angular: _Angular) -> Array:
    return jnp.asarray([eta for eta, _, _ in angular], float)


def _radial(
    distances: Array, values: Array, table: Array, waves: Array
) -> Float[Array, "atoms slots functions"]:
    """G1, G2, G3 of single neighbours."""
    shifted = distances[..., None] - table[:, 1]
    bells = jnp.exp(-table[:, 0] * shifted**2)
    ripples = jnp.cos(waves * distances[..., None])
    functions = jnp.concatenate([jnp.ones_like(values)[..., None], bells, ripples], axis=-1)
    return functions * values[..., None]


def _turns(angular: _Angular, angles: Array) -> Float[Array, "atoms slots slots functions"]:
    terms = [2.0 ** (1 - zeta) * (1.0 + sign * angles) ** zeta for _, zeta, sign in angular]
    return jnp.stack(terms, axis=-1)


def cosines(near: Surroundings) -> Float[Array, "atoms slots slots"]:
    """Cosines of the angles between all pairs of neighbours; 0 where one has no direction."""
    lengths = jnp.where(near.distances == 0.0, 1.0, near.distances)
    directions = near.vectors / lengths[..., None]
    return jnp.einsum("ajx,akx->ajk", directions, directions)


def per_element(
    species: Float[Array, "atoms slots elements"], terms: Float[Array, "atoms slots functions"]
) -> Float[Array, "atoms features"]:
    """Sum over the neighbours of each element."""
    summed = jnp.einsum("ajs,ajf->asf", species, terms)
    return summed.reshape(len(summed), -1)


def per_pair_of_elements(
    species: Float[Array, "atoms slots elements"],
    terms: Float[Array, "atoms slots slots functions"],
) -> Float[Array, "atoms features"]:
    """Sum over pairs of two neighbours by their elements, lower triangle row by row.

    Args:
        species: One-hot.
        terms: Symmetric in both neighbours; a neighbour with itself does not count.
    """
    slots, count = species.shape[1:]
    terms = terms * (1.0 - jnp.eye(slots, dtype=terms.dtype))[..., None]
    half = jnp.einsum("ajkf,akt->ajtf", terms, species)
    summed = jnp.einsum("ajs,ajtf->astf", species, half)
    rows, columns = np.tril_indices(count)
    # of equal elements, each pair stands twice
    once = jnp.asarray(np.where(rows == columns, 0.5, 1.0), terms.dtype)
    chosen = summed[:, rows, columns] * once[:, None]
    return chosen.reshape(len(chosen), -1)


def acsf(
    elements: Sequence[str | int] | str | int,
    cutoff: float,
    *,
    g2: Sequence[Sequence[float]] = (),
    g3: Sequence[float] = (),
    g4: Sequence[Sequence[float]] = (),
    g5: Sequence[Sequence[float]] = (),
    cutoff_function: str = "bump",
    max_neighbors: int | None = None,
) -> SymmetryFunctions:
    """Symmetry functions of Behler and Parrinello; see :class:`SymmetryFunctions`.

    Raises:
        ValueError: For settings that make no sense.
    """
    check_cutoff(cutoff, cutoff_function)
    for name, table, width in (("g2", g2, 2), ("g4", g4, 3), ("g5", g5, 3)):
        if any(len(row) != width for row in table):
            raise ValueError(f"{name} must have {width} numbers in each row, got {table}")
    for _, zeta, _ in (*g4, *g5):
        if zeta != int(zeta) or zeta < 1:
            raise ValueError(
                f"zeta must be a whole number from 1 on, got {zeta}: others have no second "
                "derivative at straight angles"
            )
    return SymmetryFunctions(
        distinct_numbers(elements),
        float(cutoff),
        tuple((float(eta), float(shift)) for eta, shift in g2),
        tuple(float(kappa) for kappa in g3),
        tuple((float(eta), int(zeta), float(sign)) for eta, zeta, sign in g4),
        tuple((float(eta), int(zeta), float(sign)) for eta, zeta, sign in g5),
        cutoff_function,
        max_neighbors,
    )
