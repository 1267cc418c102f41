"""Atomic environment vectors of the ANI potentials."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxff.descriptors.acsf import cosines, per_element
from jaxff.descriptors.atom_centred import WithCutoffFunction
from jaxff.descriptors.environments import (
    check_cutoff,
    cutoff_function,
    surroundings,
)
from jaxff.elements import distinct_numbers
from jaxff.system import System
from jaxff.types import Array, Float

__all__ = ["AtomicEnvironmentVectors", "ani", "ani_1x", "ani_2x"]


@dataclass(frozen=True)
class AtomicEnvironmentVectors(WithCutoffFunction):
    r"""Descriptor: Gaussians of distances per element; of angles and distances per pair of them.

    Radial: :math:`\tfrac14\sum_j e^{-\eta(d_{ij}-R_m)^2} f(d_{ij})`. Angular, for each pair of
    elements: :math:`2\sum_{j<k}\bigl[\tfrac12(1+\cos(\theta-\theta_s))\bigr]^\zeta
    e^{-\eta(\frac12(d_{ij}+d_{ik})-R_s)^2} f(d_{ij}) f(d_{ik})` with :math:`\theta =
    \arccos(0.95\,c)` of the cosine c between both neighbours, so that straight angles are smooth.

    Features ``(atoms, size)``: per element the shifts; then for pairs of elements (0,0), (0,1), …,
    (1,1), … all sections of each shift. The factors ¼ and 0.95 are those of the authors' code.
    A neighbour in the place of the centre has :math:`c = 0`.

    Attributes:
        elements: Atomic numbers, in the order of the features.
        radial_cutoff: Radius in Å.
        radial_width: η of the radial part in Å⁻².
        radial_shifts: :math:`R_m` in Å.
        angular_cutoff: Radius in Å.
        angular_width: η of the angular part in Å⁻².
        zeta: Sharpness ζ of the angles.
        angular_shifts: :math:`R_s` in Å.
        sections: :math:`\theta_s` in radians, from 0 to π.
        cutoff_function: ``"bump"`` (all derivatives are continuous), ``"polynomial"`` or
            ``"smoothstep"`` (two are) or ``"cosine"`` (as published: the second jumps).
        max_neighbors: Slots for neighbours, needed in compiled code for periodic systems whose
            lists have no rows; more neighbours give NaN.

    Reference:
        Smith, Isayev & Roitberg, Chem. Sci. 8, 3192 (2017), doi:10.1039/C6SC05720A; Gao et al., J.
        Chem. Inf. Model. 60, 3408 (2020), doi:10.1021/acs.jcim.0c00451.
    """

    elements: tuple[int, ...]
    radial_cutoff: float
    radial_width: float
    radial_shifts: tuple[float, ...]
    angular_cutoff: float
    angular_width: float
    zeta: float
    angular_shifts: tuple[float, ...]
    sections: tuple[float, ...]
    cutoff_function: str = "bump"
    max_neighbors: int | None = None

    @property
    def cutoffs(self) -> tuple[float, ...]:
        """Radii in Å of the lists that it takes."""
        return tuple(sorted({self.radial_cutoff, self.angular_cutoff}))

    @property
    def size(self) -> int:
        """Features per atom."""
        count = len(self.elements)
        angular = len(self.angular_shifts) * len(self.sections)
        return count * len(self.radial_shifts) + count * (count + 1) // 2 * angular

    def __call__(
        self,
        system: System,
        neighbors: Any = None,
        *,
        radial_width: Float[Array, ""] | float | None = None,
        angular_width: Float[Array, ""] | float | None = None,
        zeta: Float[Array, ""] | float | None = None,
    ) -> Float[Array, "atoms features"]:
        """Features of a single system or a pack.

        Args:
            system: Atoms of the listed elements.
            neighbors: Lists for ``cutoffs``; ``None`` for all pairs of a molecule.
            radial_width: Takes the place of the attribute, so that it can be optimised.
            angular_width: Likewise.
            zeta: Likewise.
        """
        widths = (
            self.radial_width if radial_width is None else radial_width,
            self.angular_width if angular_width is None else angular_width,
        )
        radial = self._radial(system, neighbors, widths[0])
        angular = self._angular(system, neighbors, widths[1], self.zeta if zeta is None else zeta)
        return jnp.concatenate([radial, angular], axis=-1)

    def _radial(self, system: System, neighbors: Any, width: Any) -> Array:
        near = surroundings(
            system, self.radial_cutoff, self.elements, neighbors, self.max_neighbors
        )
        values = cutoff_function(self.cutoff_function, near.distances, self.radial_cutoff)
        shifts = jnp.asarray(self.radial_shifts, near.distances.dtype)
        bells = jnp.exp(-width * (near.distances[..., None] - shifts) ** 2)
        return per_element(near.species, 0.25 * bells * values[..., None])

    def _angular(self, system: System, neighbors: Any, width: Any, zeta: Any) -> Array:
        """Angular part; the two neighbours separate but for angle and mean distance."""
        near = surroundings(
            system, self.angular_cutoff, self.elements, neighbors, self.max_neighbors
        )
        dtype = near.distances.dtype
        values = cutoff_function(self.cutoff_function, near.distances, self.angular_cutoff)
        slots = near.distances.shape[1]
        both = values[:, :, None] * values[:, None, :] * (1.0 - jnp.eye(slots, dtype=dtype))
        mean = 0.5 * (near.distances[:, :, None] + near.distances[:, None, :])
        shifts = jnp.asarray(self.angular_shifts, dtype)
        bells = jnp.exp(-width * (mean[..., None] - shifts) ** 2) * both[..., None]
        cosine = 0.95 * cosines(near)
        sections = jnp.asarray(self.sections, dtype)
        # cos(θ - θs) without θ: the sine of an angle is not negative
        turned = cosine[..., None] * jnp.cos(sections)
        turned = turned + jnp.sqrt(1.0 - cosine**2)[..., None] * jnp.sin(sections)
        peaks = 2.0 * (0.5 * (1.0 + turned)) ** zeta
        half = jnp.einsum("ajkr,ajkq,akt->ajrqt", bells, peaks, near.species)
        summed = jnp.einsum("ajs,ajrqt->astrq", near.species, half)
        rows, columns = np.triu_indices(len(self.elements))
        # of equal elements, each pair stands twice
        once = jnp.asarray(np.where(rows == columns, 0.5, 1.0), dtype)
        return (summed[:, rows, columns] * once[:, None, None]).reshape(len(summed), -1)


def ani(
    elements: Sequence[str | int] | str | int,
    *,
    radial_cutoff: float,
    radial_width: float,
    radial_shifts: Sequence[float],
    angular_cutoff: float,
    angular_width: float,
    zeta: float,
    angular_shifts: Sequence[float],
    sections: Sequence[float],
    cutoff_function: str = "bump",
    max_neighbors: int | None = None,
) -> AtomicEnvironmentVectors:
    """Atomic environment vectors; see :class:`AtomicEnvironmentVectors`.

    Raises:
        ValueError: For settings that make no sense.
    """
    check_cutoff(radial_cutoff, cutoff_function)
    check_cutoff(angular_cutoff, cutoff_function)
    if not all(0.0 <= s <= math.pi for s in sections):
        raise ValueError(f"sections must be angles from 0 to π, got {list(sections)}")
    if not zeta > 0:
        raise ValueError(f"zeta must be positive, got {zeta}")
    return AtomicEnvironmentVectors(
        distinct_numbers(elements),
        float(radial_cutoff),
        float(radial_width),
        tuple(float(s) for s in radial_shifts),
        float(angular_cutoff),
        float(angular_width),
        float(zeta),
        tuple(float(s) for s in angular_shifts),
        tuple(float(s) for s in sections),
        cutoff_function,
        max_neighbors,
    )


def ani_1x(
    *, cutoff_function: str = "bump", max_neighbors: int | None = None
) -> AtomicEnvironmentVectors:
    """Settings of ANI-1x for H, C, N, O: 384 features; published with ``"cosine"``."""
    return ani(
        ("H", "C", "N", "O"),
        radial_cutoff=5.2,
        radial_width=16.0,
        radial_shifts=[0.9 + k * (5.2 - 0.9) / 16 for k in range(16)],
        angular_cutoff=3.5,
        angular_width=8.0,
        zeta=32.0,
        angular_shifts=[0.9 + k * 0.65 for k in range(4)],
        sections=[(0.5 + k) * math.pi / 8 for k in range(8)],
        cutoff_function=cutoff_function,
        max_neighbors=max_neighbors,
    )


def ani_2x(
    *, cutoff_function: str = "bump", max_neighbors: int | None = None
) -> AtomicEnvironmentVectors:
    """Settings of ANI-2x for H, C, N, O, S, F, Cl: 1008 features; published with ``"cosine"``."""
    return ani(
        ("H", "C", "N", "O", "S", "F", "Cl"),
        radial_cutoff=5.1,
        radial_width=19.7,
        radial_shifts=[0.8 + k * (5.1 - 0.8) / 16 for k in range(16)],
        angular_cutoff=3.5,
        angular_width=12.5,
        zeta=14.1,
        angular_shifts=[0.8 + k * (3.5 - 0.8) / 8 for k in range(8)],
        sections=[(0.5 + k) * math.pi / 4 for k in range(4)],
        cutoff_function=cutoff_function,
        max_neighbors=max_neighbors,
    )
