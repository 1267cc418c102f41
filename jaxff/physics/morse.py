"""The Morse potential between atoms that are not bonded by name."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from jaxff.physics.pairs import distance
from jaxff.physics.species import atomic_numbers, pair_table, species_potential
from jaxff.potential import Potential
from jaxff.types import Array, Params

__all__ = ["morse"]

NAMES = ("depth", "width", "length")


def morse(
    elements: Sequence[str | int] | str | int,
    cutoff: float,
    *,
    truncation: str = "shifted",
    onset: float | None = None,
) -> Potential:
    r"""Morse potential, :math:`D[(1 - e^{-a(r - r_0)})^2 - 1]` within a cutoff.

    ``init`` takes ``depth`` D (eV), ``width`` a (1/Å) and ``length`` :math:`r_0` (Å) by name:
    numbers for one element, symmetric tables of pairs for several (there is no accepted rule to mix
    them). They are the parameters and can be fitted. Atoms of other elements give NaN.

    Args:
        elements: Symbols or atomic numbers, in the order of the parameters.
        cutoff: Radius in Å.
        truncation: ``"cut"``, ``"shifted"``, ``"force_shifted"`` or ``"switched"``, as for
            :func:`jaxff.physics.lennard_jones`.
        onset: Where switching begins, in Å; by default 0.9 of the cutoff.

    Raises:
        ValueError: For arguments that make no sense.
    Reference:
        Morse, Phys. Rev. 34, 57 (1929), doi:10.1103/PhysRev.34.57.
    """
    return species_potential(
        "morse", atomic_numbers(elements), float(cutoff), truncation, onset,
        _parameters, _function, NAMES, mixes=False,
    )  # fmt: skip


def _parameters(elements: tuple[int, ...], params: Params, first: Array, second: Array) -> Any:
    return tuple(pair_table(params[name], elements, first, second) for name in NAMES)


def _function(square: Array, parameters: tuple[Array, Array, Array]) -> Array:
    depth, width, length = (p.astype(square.dtype) for p in parameters)
    decay = jnp.exp(-width * (distance(square) - length))
    return depth * decay * (decay - 2.0)
