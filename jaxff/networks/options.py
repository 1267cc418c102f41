"""Options that networks on neighbour lists share, checked where a potential is built."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxff.networks.blocks import (
    CUTOFF_FUNCTIONS,
    RADIAL_BASES,
    ElementEmbedding,
    RadialBasis,
    TotalEmbedding,
    cutoff_values,
    require_choice,
    require_positive,
)
from jaxff.networks.graph import Edges
from jaxff.networks.readouts import OUTPUTS
from jaxff.system import System
from jaxff.types import Array, Float

__all__ = ["AtomEmbedding", "RadialOptions", "check_outputs", "dtype_name", "uses"]


@dataclass(frozen=True)
class RadialOptions:
    """How a network sees distances.

    Attributes:
        cutoff: Radius in Å; ``None`` for all pairs of a molecule.
        cutoff_function: ``"bump"``, ``"polynomial"``, ``"smoothstep"`` (second derivatives are
            continuous), ``"cosine"`` (as published: they jump at the cutoff), or ``None``.
        basis: ``"gaussian"``, ``"bessel"``, ``"bernstein"`` or ``"physnet"``.
        functions: Their number.
        trainable: Whether their centres, widths, frequencies or decay are trained.
        centers: Take the place of the usual centres or frequencies.
        widths: Take the place of the usual widths.
        decay: Takes the place of the usual exponent of the Bernstein basis, 1/Å.

    Raises:
        ValueError: For options that make no sense.
    """

    cutoff: float | None
    cutoff_function: str | None
    basis: str
    functions: int
    trainable: bool = False
    centers: tuple[float, ...] | None = None
    widths: tuple[float, ...] | None = None
    decay: float | None = None

    def __post_init__(self):
        require_choice("radial_basis", self.basis, RADIAL_BASES)
        require_positive(radial_functions=self.functions)
        if self.cutoff is not None and not 0.0 < self.cutoff < math.inf:
            raise ValueError(f"cutoff must be a positive number in Å, got {self.cutoff}")
        if self.cutoff_function is not None:
            require_choice("cutoff_function", self.cutoff_function, CUTOFF_FUNCTIONS)
        if (self.cutoff is None) != (self.cutoff_function is None):
            raise ValueError(
                f"a cutoff and a cutoff function go together: got cutoff {self.cutoff} and "
                f"cutoff_function {self.cutoff_function!r}"
            )
        takes = {"gaussian": 2, "physnet": 2, "bessel": 1, "bernstein": 0}[self.basis]
        for name, place in (("centers", 1), ("widths", 2)):
            table = getattr(self, name)
            if table is not None and (place > takes or len(table) != self.functions):
                raise ValueError(
                    f"radial_{name} of the {self.basis} basis must be "
                    f"{self.functions if place <= takes else 'left out'}, got {len(table)} numbers"
                )
        if self.decay is not None and (self.basis != "bernstein" or not 0 < self.decay < math.inf):
            raise ValueError(
                f"radial_decay is a positive number in 1/Å of the bernstein basis, got {self.decay}"
                f" for the {self.basis} basis"
            )
        if self.cutoff is None and (self.centers is None or (takes == 2 and self.widths is None)):
            raise ValueError("without a cutoff give radial_centers and radial_widths in Å")

    def evaluate(self, edges: Edges) -> tuple[Float[Array, "edges _"], Float[Array, "edges 1"]]:
        """Radial functions and cutoff function of all edges, within a compact module.

        The cutoff function is zero for padding.
        """
        return self.functions_at(edges.distances), self.cutoff_of(edges)

    def functions_at(self, distances: Float[Array, " distances"]) -> Float[Array, "distances _"]:
        """Radial functions, within a compact module."""
        module = RadialBasis(
            self.basis,
            self.functions,
            1.0 if self.cutoff is None else self.cutoff,
            self.trainable,
            self.centers,
            self.widths,
            self.decay,
            name="radial_basis",
        )
        return module(distances)

    def cutoff_of(self, edges: Edges) -> Float[Array, "edges 1"]:
        """Cutoff function of all edges, zero for padding."""
        values = cutoff_values(self.cutoff_function, edges.distances, self.cutoff)
        return jnp.where(edges.mask, values, 0.0)[:, None]

    @classmethod
    def of(cls, cutoff: Any, function: str | None, basis: str, functions: int, trainable: bool,
           centers: Any, widths: Any, decay: Any = None) -> "RadialOptions":  # fmt: skip
        """From what a user gives; tables may be any sequence of numbers."""
        return cls(
            None if cutoff is None else float(cutoff),
            function,
            basis,
            functions,
            bool(trainable),
            _numbers(centers),
            _numbers(widths),
            None if decay is None else float(decay),
        )

    def arguments(self) -> dict[str, Any]:
        """For the recipe of a file; a decay only where one is given."""
        decay = {} if self.decay is None else {"radial_decay": self.decay}
        return decay | {
            "cutoff": self.cutoff,
            "cutoff_function": self.cutoff_function,
            "radial_basis": self.basis,
            "radial_functions": self.functions,
            "trainable_basis": self.trainable,
            "radial_centers": None if self.centers is None else np.asarray(self.centers),
            "radial_widths": None if self.widths is None else np.asarray(self.widths),
        }


def _numbers(table: Any) -> tuple[float, ...] | None:
    return None if table is None else tuple(np.asarray(table, np.float64).ravel().tolist())


class AtomEmbedding(nn.Module):
    """Vectors of the atoms by their elements and, on request, their shares of charge and spin.

    Attributes:
        features: Length of the vectors.
        max_number: Last atomic number.
        totals: Which of ``charge`` and ``spin`` are read.
    """

    features: int
    max_number: int
    totals: Sequence[str] = ()

    @nn.compact
    def __call__(self, system: System) -> Float[Array, "atoms features"]:
        """Sum of all embeddings."""
        vectors = ElementEmbedding(self.features, self.max_number, name="elements")(system.numbers)
        total = vectors
        for name in self.totals:
            total = total + TotalEmbedding(name, name=name)(system, vectors)
        return total


def uses(charge: bool, spin: bool) -> tuple[str, ...]:
    """Fields of the system that are read."""
    return tuple(name for name, on in (("charge", charge), ("spin", spin)) if on)


def check_outputs(outputs: Sequence[str], known: Sequence[str] = OUTPUTS) -> tuple[str, ...]:
    """Refuse outputs that a network does not have.

    Raises:
        ValueError: Naming what is known.
    """
    if isinstance(outputs, str):
        raise ValueError(f"outputs must be a sequence of names, got {outputs!r}: ({outputs!r},)")
    for name in outputs:
        require_choice("outputs", name, known)
    return tuple(sorted(set(outputs)))


def dtype_name(dtype: Any) -> str:
    """Name of a precision, for files.

    Raises:
        ValueError: If it is no floating-point type.
    """
    found = jnp.dtype(dtype)
    if not jnp.issubdtype(found, jnp.floating):
        raise ValueError(f"dtype must be a floating-point type, got {found}")
    return found.name
