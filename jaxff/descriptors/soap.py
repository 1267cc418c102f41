"""Power spectrum of the smooth overlap of atomic positions."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxff.descriptors.atom_centred import AtomCentred
from jaxff.descriptors.environments import one_hot
from jaxff.descriptors.expansion import TRANSITIONS, check_transition, expand_neighbors
from jaxff.descriptors.radial_integrals import BASES, density_series
from jaxff.elements import distinct_numbers
from jaxff.system import System
from jaxff.types import Array, Float

__all__ = ["Soap", "soap"]


@dataclass(frozen=True)
class Soap(AtomCentred):
    r"""Descriptor: invariants of the density of Gaussians around each atom, per pair of elements.

    The density of each element, :math:`\sum_j e^{-|r-r_{ij}|^2/2\sigma^2}` (the centre belongs to
    its own), is expanded in orthonormal radial functions and spherical harmonics,
    :math:`c_{nlm}`; features are :math:`p_{nn'l} = w_l\sum_m c_{nlm} c'_{n'lm}`.

    Radial bases, all orthonormalised symmetrically (Löwdin):

    * ``"gto"``: :math:`r^n e^{-r^2/2\sigma_n^2}`, n from 0, :math:`\sigma_n = r_c
      \max(\sqrt n, 1)/N`, for every degree; Gaussians normalised by :math:`(\pi\sigma^2)^{-3/4}`,
      :math:`w_l = (2l+1)^{-1/2}` (conventions of featomic);
    * ``"gto_l"``: :math:`r^l e^{-\alpha r^2}` decayed to 10⁻³ at equidistant radii;
      :math:`w_l = \pi\sqrt{8/(2l+1)}` (conventions of DScribe);
    * ``"polynomial"``: :math:`(r_c-r)^{n+2}`, :math:`w_l` as before (DScribe).

    Features ``(atoms, size)``: for pairs of elements (0,0), (0,1), …, (1,1), … the degree is
    outermost, then n, then n' (from n on for equal elements). Settings are static: the radial
    integrals are tabulated once. Padding atoms have zeros.

    Attributes:
        elements: Atomic numbers, in the order of the features.
        cutoff: Radius in Å.
        radial_functions: Their number N.
        max_degree: Largest degree l.
        width: σ of the Gaussians in Å.
        basis: Of the radial functions.
        transition: How neighbours fade out over ``transition_width`` below the cutoff:
            ``"switching"`` (two derivatives are continuous), ``"shifted_cosine"`` (as in featomic:
            the second jumps), or ``"none"`` (as in DScribe: all atoms up to :math:`r_c +
            \sigma\sqrt{2\ln 10^3}` count in full, and values jump there).
        transition_width: Å.

    Reference:
        Bartók, Kondor & Csányi, Phys. Rev. B 87, 184115 (2013), doi:10.1103/PhysRevB.87.184115;
        Himanen et al., Comput. Phys. Commun. 247, 106949 (2020), doi:10.1016/j.cpc.2019.106949.
    """

    elements: tuple[int, ...]
    cutoff: float
    radial_functions: int
    max_degree: int
    width: float
    basis: str = "gto"
    transition: str = "switching"
    transition_width: float = 0.5

    @property
    def reach(self) -> float:
        """Distance in Å up to which atoms count."""
        if self.transition == "none":
            return self.cutoff + self.width * math.sqrt(2.0 * math.log(1e3))
        return self.cutoff

    @property
    def cutoffs(self) -> tuple[float, ...]:
        """Radii in Å of the lists that it takes."""
        return (self.reach,)

    @property
    def size(self) -> int:
        """Features per atom."""
        elements, count = len(self.elements), self.radial_functions
        equal = elements * (count * (count + 1) // 2)
        unequal = elements * (elements - 1) // 2 * count**2
        return (self.max_degree + 1) * (equal + unequal)

    @property
    def smoothness(self) -> float:
        """Number of derivatives that are continuous at the cutoff; -1 if the value is not."""
        return TRANSITIONS.get(self.transition, -1)

    def expansion(self, system: System, neighbors: Any = None) -> list[Array]:
        """Coefficients of each degree, ``(atoms, elements, functions, 2 l + 1)``.

        Args:
            system: A single system or a pack, atoms of the listed elements.
            neighbors: Lists for ``cutoffs``; ``None`` for all pairs of a molecule.
        """
        series, origin = density_series(
            self.basis, self.radial_functions, self.max_degree, self.width, self.cutoff, self.reach
        )
        transition = (self.transition, self.cutoff, self.transition_width)
        coefficients = expand_neighbors(
            system, neighbors, self.elements, series, self.reach, transition
        )
        dtype = coefficients[0].dtype
        own = one_hot(self.elements, system.numbers, dtype)
        center = jnp.asarray(origin / math.sqrt(4 * math.pi), dtype)
        coefficients[0] = coefficients[0] + (own[:, :, None] * center)[..., None]
        return coefficients

    def __call__(self, system: System, neighbors: Any = None) -> Float[Array, "atoms features"]:
        """Features of a single system or a pack.

        Args:
            system: Atoms of the listed elements.
            neighbors: Lists for ``cutoffs``; ``None`` for all pairs of a molecule.
        """
        spectra = []
        for degree, values in enumerate(self.expansion(system, neighbors)):
            flat = values.reshape(len(values), -1, values.shape[-1])
            scale = (2 * degree + 1) ** -0.5
            if self.basis != "gto":
                scale = scale * math.pi * math.sqrt(8.0)
            spectra.append(scale * jnp.einsum("aum,avm->auv", flat, flat))
        return _blocks(jnp.stack(spectra, axis=1), len(self.elements))


def _blocks(spectra: Float[Array, "atoms degrees m m"], elements: int) -> Array:
    """Blocks of pairs of elements one after another; of equal ones the upper triangle.

    Slices and a product with zeros and ones: their derivatives need no scattered additions, and no
    tables that a compiler would fold for seconds.
    """
    atoms, degrees, count = *spectra.shape[:2], spectra.shape[2] // elements
    split = spectra.reshape(atoms, degrees, elements, count, elements, count)
    rows, columns = np.triu_indices(count)
    chosen = np.zeros((count * count, len(rows)))
    chosen[rows * count + columns, np.arange(len(rows))] = 1.0
    upper = jnp.asarray(chosen, spectra.dtype)
    features = []
    for first in range(elements):
        for second in range(first, elements):
            block = split[:, :, first, :, second].reshape(atoms, degrees, count * count)
            block = block @ upper if first == second else block
            features.append(block.reshape(atoms, -1))
    return jnp.concatenate(features, axis=-1)


def soap(
    elements: Sequence[str | int] | str | int,
    cutoff: float,
    *,
    radial_functions: int,
    max_degree: int,
    width: float,
    basis: str = "gto",
    transition: str = "switching",
    transition_width: float = 0.5,
) -> Soap:
    """Power spectrum of atomic densities; see :class:`Soap`.

    Raises:
        ValueError: For settings that make no sense.
    """
    check_transition(transition, transition_width, cutoff)
    if basis not in BASES:
        raise ValueError(f"basis must be one of {BASES}, got {basis!r}")
    if radial_functions < 1 or max_degree < 0:
        raise ValueError(
            "radial_functions must be at least 1 and max_degree at least 0, got "
            f"{radial_functions} and {max_degree}"
        )
    if not 0.0 < width < math.inf:
        raise ValueError(f"width must be a positive number in Å, got {width}")
    return Soap(
        distinct_numbers(elements),
        float(cutoff),
        int(radial_functions),
        int(max_degree),
        float(width),
        basis,
        transition,
        float(transition_width),
    )
