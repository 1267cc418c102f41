"""Kernels on systems: a descriptor, a base kernel and a permutation group."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxff.kernels.base import BaseKernel
from jaxff.kernels.groups import verify
from jaxff.system import System
from jaxff.types import Array, Float, Int

__all__ = ["Descriptor", "Kernel"]

Descriptor = Callable[..., Array]
"""Function of ``(system, neighbors=None, **hyper)`` giving the features of one system.

One whose features permute with the atoms may offer ``permute(permutations) -> indices`` (as inverse
distances do); any other is evaluated on every permuted system.
"""


@dataclass(frozen=True, eq=False)
class Kernel:
    r"""Symmetric kernel :math:`k(r, r') = \sum_p \kappa(\lVert\varphi(r_p) - \varphi(r')\rVert)`.

    The sum (not a mean) runs over a permutation group; without one, this is the plain kernel of
    GDML.

    Attributes:
        descriptor: Features of a system.
        base: Radial kernel on the features.
        permutations: Closed group of atom permutations, identity included; ``None`` for the
            identity alone.

    Raises:
        ValueError: If the permutations are no group.

    Reference:
        Chmiela et al., Nat. Commun. 9, 3887 (2018), doi:10.1038/s41467-018-06169-2.
    """

    descriptor: Descriptor
    base: BaseKernel
    permutations: Int[np.ndarray, "perms atoms"] | None = None

    def __post_init__(self):
        if self.permutations is not None:
            perms = np.array(self.permutations)
            verify(perms)
            perms.flags.writeable = False
            object.__setattr__(self, "permutations", perms)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Kernel) and self._content == other._content

    def __hash__(self) -> int:
        return hash(self._content)

    @cached_property
    def _content(self) -> tuple:
        """What makes two kernels the same program to JAX: equal ones share compilations."""
        group = self.permutations
        code = None if group is None else (len(group), group.tobytes())
        try:
            hash(self.descriptor)
        except TypeError:  # a record that holds arrays, say: equal only to itself
            return id(self.descriptor), self.base, code
        return self.descriptor, self.base, code

    @cached_property
    def hyper_names(self) -> tuple[str, ...]:
        """Names of the hyperparameters: the length scale and those of the descriptor."""
        own = inspect.signature(self.descriptor).parameters
        extra = [n for n in own if n not in ("system", "neighbors")]
        return ("lengthscale", *extra)

    def check_hyper(self, hyper: dict[str, Any]) -> None:
        """Refuse hyperparameters other than the expected ones.

        Raises:
            ValueError: If one is missing or unknown, or the length scale is not one positive
                number.
        """
        required = {"lengthscale"} | {
            name
            for name, p in inspect.signature(self.descriptor).parameters.items()
            if name not in ("system", "neighbors") and p.default is inspect.Parameter.empty
        }
        missing, unknown = required - set(hyper), set(hyper) - set(self.hyper_names)
        if missing or unknown:
            raise ValueError(
                f"hyper must name {self.hyper_names}; missing {sorted(missing)}, "
                f"unknown {sorted(unknown)}"
            )
        lengthscale = np.asarray(hyper["lengthscale"])
        if (
            lengthscale.shape != ()
            or lengthscale.dtype.kind not in "iuf"
            or not (np.isfinite(lengthscale) and lengthscale > 0)
        ):
            raise ValueError(
                "lengthscale must be one positive number, in the unit of the descriptor, got "
                f"{hyper['lengthscale']!r}"
            )

    def features(self, hyper: dict[str, Array], system: System) -> Float[Array, " features"]:
        """Features of one system."""
        named = {n: v for n, v in hyper.items() if n != "lengthscale"}
        return jnp.ravel(self.descriptor(system, **named))

    def permuted_features(
        self, hyper: dict[str, Array], system: System
    ) -> Float[Array, "perms features"]:
        """Features of one system under every permutation.

        Permuting the query instead of the references gives the same sum with P times less memory
        traffic.

        Raises:
            ValueError: If the permutations act on another number of atoms.
        """
        if self.permutations is None:
            return self.features(hyper, system)[None]
        if self.permutations.shape[1] != system.atom_count:
            raise ValueError(
                f"permutations act on {self.permutations.shape[1]} atoms, "
                f"the system has {system.atom_count}"
            )
        index = self.feature_permutations
        if index is not None:
            return self.features(hyper, system)[index]
        return jax.vmap(
            lambda p: self.features(hyper, system.replace(positions=system.positions[p]))
        )(jnp.asarray(self.permutations))

    @cached_property
    def feature_permutations(self) -> Int[np.ndarray, "perms features"] | None:
        """Feature indices under each permutation, where the descriptor declares them."""
        permute = getattr(self.descriptor, "permute", None)
        if permute is None or self.permutations is None:
            return None
        return permute(self.permutations)

    @property
    def order(self) -> int:
        """Number of permutations."""
        return 1 if self.permutations is None else len(self.permutations)
