"""Power spectrum in spherical Bessel functions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxff.descriptors.atom_centred import AtomCentred
from jaxff.descriptors.expansion import check_transition, expand_neighbors
from jaxff.descriptors.radial_integrals import bessel_series
from jaxff.elements import distinct_numbers
from jaxff.system import System
from jaxff.types import Array, Float

__all__ = ["BesselPowerSpectrum", "bessel_power_spectrum"]


@dataclass(frozen=True)
class BesselPowerSpectrum(AtomCentred):
    r"""Descriptor: power spectrum of neighbours expanded in spherical Bessel functions.

    For pairs of elements A, B: :math:`\frac{2l+1}{4\pi}\sum_{j\in A}\sum_{k\in B} g_{nl}(d_j)\,
    g_{nl}(d_k)\,P_l(\cos\theta_{jk})`.

    The radial functions are combinations of spherical Bessel functions that vanish with their slope
    at the cutoff, orthonormalised (:func:`jaxff.descriptors.radial_integrals.bessel_series`). By
    the equation that Bessel functions obey, the curvature vanishes there too: the third derivative
    is the first to jump. By the addition theorem the double sum is one of products of single sums.
    n runs from 0 to ``max_order - l`` and is the same in both factors; the centre does not count.

    Features ``(atoms, size)``: pairs of elements (0,0), (0,1), …, (1,1), …, then the degree l, then
    n. Atoms without neighbours and padding atoms have zeros.

    Attributes:
        elements: Atomic numbers, in the order of the features.
        cutoff: Radius in Å.
        max_order: Largest degree l.

    Reference:
        Kocer, Mason & Erturk, J. Chem. Phys. 150, 154102 (2019), doi:10.1063/1.5086167;
        Montes-Campos et al., J. Chem. Inf. Model. 62, 88 (2022), doi:10.1021/acs.jcim.1c01380.
    """

    elements: tuple[int, ...]
    cutoff: float
    max_order: int
    smoothness = 2

    @property
    def cutoffs(self) -> tuple[float, ...]:
        """Radii in Å of the lists that it takes."""
        return (self.cutoff,)

    @property
    def size(self) -> int:
        """Features per atom."""
        count = len(self.elements)
        return count * (count + 1) // 2 * (self.max_order + 1) * (self.max_order + 2) // 2

    def __call__(self, system: System, neighbors: Any = None) -> Float[Array, "atoms features"]:
        """Features of a single system or a pack.

        Args:
            system: Atoms of the listed elements.
            neighbors: Lists for ``cutoffs``; ``None`` for all pairs of a molecule.
        """
        coefficients = expand_neighbors(
            system,
            neighbors,
            self.elements,
            _by_degree(bessel_series(self.max_order, self.cutoff), self.max_order),
            self.cutoff,
            ("none", self.cutoff, self.cutoff),
        )
        rows, columns = np.triu_indices(len(self.elements))
        channels = []
        for degree, values in enumerate(coefficients):
            used = values[:, :, : self.max_order - degree + 1]
            channels.append(jnp.einsum("apnm,apnm->apn", used[:, rows], used[:, columns]))
        return jnp.concatenate(channels, axis=-1).reshape(system.atom_count, -1)


def _by_degree(series: np.ndarray, max_order: int) -> np.ndarray:
    """The channels as ``(terms, degrees, functions)``, zero where there are fewer functions."""
    table = np.zeros((len(series), max_order + 1, max_order + 1))
    start = 0
    for degree in range(max_order + 1):
        count = max_order - degree + 1
        table[:, degree, :count] = series[:, start : start + count]
        start += count
    return table


def bessel_power_spectrum(
    elements: Sequence[str | int] | str | int, cutoff: float, max_order: int
) -> BesselPowerSpectrum:
    """Power spectrum in spherical Bessel functions; see :class:`BesselPowerSpectrum`.

    Raises:
        ValueError: For settings that make no sense.
    """
    check_transition("none", cutoff, cutoff)
    if max_order < 0:
        raise ValueError(f"max_order must be at least 0, got {max_order}")
    return BesselPowerSpectrum(distinct_numbers(elements), float(cutoff), int(max_order))
