r"""Van der Waals dispersion between atoms in molecules, from their Hirshfeld volumes.

Atoms are quantum Drude oscillators: one polarizability and one :math:`C_6` say everything else,
:math:`C_8`, :math:`C_{10}` and where damping begins.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp

from jaxff import units
from jaxff.neighbors import Pairs
from jaxff.physics.coulomb import shifted_force
from jaxff.physics.free_atoms import C6, POLARIZABILITIES, of_elements
from jaxff.physics.sums import pair_sums
from jaxff.radial.cutoffs import smooth_switching
from jaxff.system import System
from jaxff.types import Array, Float

__all__ = [
    "AtomsInMolecules",
    "BeckeJohnson",
    "atoms_in_molecules",
    "becke_johnson",
    "dispersion_energies",
    "drude_dispersion",
]

FINE_STRUCTURE = 7.2973525693e-3  # CODATA 2018
# Cubic fit of the width of the oscillator in Bohr by the van der Waals radius in Bohr.
WIDTH = (-0.00433008, 0.24428889, 0.04125273, -0.00078893)


class AtomsInMolecules(NamedTuple):
    """What dispersion depends on, per atom: polarizability in Bohr³, C6 in Hartree Bohr⁶."""

    polarizabilities: Float[Array, "*shape"]
    c6: Float[Array, "*shape"]


def atoms_in_molecules(system: System, ratios: Float[Array, " atoms"]) -> AtomsInMolecules:
    r"""Free atoms scaled by their volume, :math:`\alpha = h\,\alpha_0`, :math:`C_6 = h^2 C_{6,0}`.

    Padding atoms have harmless values, elements beyond radon NaN.

    Args:
        system: A single system or a pack.
        ratios: Hirshfeld volumes relative to the free atoms.

    Reference:
        Tkatchenko & Scheffler, Phys. Rev. Lett. 102, 073005 (2009),
        doi:10.1103/PhysRevLett.102.073005.
    """
    ratios = jnp.where(system.numbers > 0, ratios, 1.0)
    free = [of_elements(table, system.numbers, ratios.dtype) for table in (POLARIZABILITIES, C6)]
    return AtomsInMolecules(free[0] * ratios, free[1] * ratios**2)


def dispersion_energies(
    ratios: Float[Array, " atoms"],
    system: System,
    pairs: Pairs | None,
    *,
    damping: float,
    cutoff: float | None = None,
    taper: float = 2.0,
) -> Float[Array, " atoms"]:
    r"""Dispersion energy of each atom in eV, :math:`-\frac12\sum_j\sum_n C_n/(r^n + p^n)`.

    Args:
        ratios: Hirshfeld volumes relative to the free atoms.
        system: A single system or a pack.
        pairs: Within the cutoff; ``None`` for every two atoms of one molecule.
        damping: Scale of the damping radius p.
        cutoff: In Å; ``None`` for none.
        taper: The energy is switched off smoothly over this many Å before the cutoff.

    Raises:
        ValueError: If all pairs of a periodic system are asked for, or pairs of a stack.
    Reference:
        Kabylda et al., J. Am. Chem. Soc. 147, 33723 (2025) (SO3LR).
    """

    def energy(distances: Array, first: AtomsInMolecules, second: AtomsInMolecules) -> Array:
        value = units.HARTREE * drude_dispersion(distances / units.BOHR, first, second, damping)
        if cutoff is None:
            return value
        return value * smooth_switching(distances, cutoff - taper, cutoff)

    return pair_sums(energy, system, pairs, atoms_in_molecules(system, ratios))


def drude_dispersion(
    distances: Float[Array, "*shape"],
    first: AtomsInMolecules,
    second: AtomsInMolecules,
    damping: float,
) -> Float[Array, "*shape"]:
    r"""Dispersion energy of two coupled quantum Drude oscillators, atomic units throughout.

    :math:`C_8 = 5 C_6/\gamma` and :math:`C_{10} = \tfrac{245}{8} C_6/\gamma^2`; γ from the van der
    Waals radius :math:`R = \alpha_{fs}^{-4/21} \alpha^{1/7}`, damped at :math:`p = 5.08\,s\,
    \alpha^{1/7}` with the mean polarizability α of both.

    Reference:
        Khabibrakhmanov, Fedorov & Tkatchenko, J. Chem. Theory Comput. 19, 7895 (2023),
        doi:10.1021/acs.jctc.3c00797; radius: Fedorov et al., Phys. Rev. Lett. 121, 183401 (2018),
        doi:10.1103/PhysRevLett.121.183401.
    """
    mean = 0.5 * (first.polarizabilities + second.polarizabilities)
    # C6 of unlike atoms by the ratio of polarizabilities, so that no power of them is large.
    ratio = first.polarizabilities / second.polarizabilities
    c6 = 2.0 * first.c6 * second.c6 / (ratio * second.c6 + first.c6 / ratio)
    seventh = mean ** (1.0 / 7.0)
    radius = FINE_STRUCTURE ** (-4.0 / 21.0) * seventh
    width = WIDTH[0] + radius * (WIDTH[1] + radius * (WIDTH[2] + radius * WIDTH[3]))
    inverse = 2.0 * width**2  # 1/γ
    edge = damping * 5.08 * seventh
    x2 = (distances / edge) ** 2
    x6 = x2**3
    # In units of the damping radius: r^10 in Bohr leaves the range of float32.
    eighth = 5.0 * inverse / edge**2
    tenth = 245.0 / 8.0 * (inverse / edge**2) ** 2
    terms = 1.0 / (1.0 + x6) + eighth / (1.0 + x6 * x2) + tenth / (1.0 + x6 * x2 * x2)
    return -c6 / edge**6 * terms


class BeckeJohnson(NamedTuple):
    """Parameters of D3 and D4 that belong to a functional or are fitted with a model.

    Attributes:
        s6: Scale of the leading term.
        s8: Scale of the second term.
        a1: Damping radius as a multiple of the critical radius.
        a2: Damping radius, constant part, in Bohr.
    """

    s6: Any
    s8: Any
    a1: Any
    a2: Any


def becke_johnson(
    distances: Float[Array, "*shape"],
    moments: Float[Array, "*shape"],
    parameters: BeckeJohnson,
    cutoff: float | None = None,
) -> Float[Array, "*shape"]:
    r"""Dispersion energy of :math:`C_6 = 1` with rational damping, atomic units throughout.

    :math:`-s_6/(r^6 + r_0^6) - s_8 R^2/(r^8 + r_0^8)` with :math:`R^2 = 3 Q_i Q_j`, the ratio of
    :math:`C_8` to :math:`C_6`, and :math:`r_0 = a_1 R + a_2`. With a cutoff energy and force are
    shifted to zero there.

    Args:
        distances: In Bohr.
        moments: :math:`Q_i Q_j` of both atoms.
        parameters: Of the damping.
        cutoff: In Bohr; ``None`` for none.

    Reference:
        Grimme, Ehrlich & Goerigk, J. Comput. Chem. 32, 1456 (2011), doi:10.1002/jcc.21759.
    """
    ratio = 3.0 * moments
    radius = parameters.a1 * jnp.sqrt(ratio) + parameters.a2

    def sixth(r: Array) -> Array:
        return 1.0 / (r**6 + radius**6)

    def eighth(r: Array) -> Array:
        return 1.0 / (r**8 + radius**8)

    parts = [f if cutoff is None else shifted_force(f, cutoff) for f in (sixth, eighth)]
    return -(parameters.s6 * parts[0](distances) + parameters.s8 * ratio * parts[1](distances))
