"""Kernels on systems: a descriptor, a base kernel and a permutation group."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxff.kernels.abelian import cosets, elements
from jaxff.kernels.groups import verify
from jaxff.kernels.listed import permuted
from jaxff.kernels.on_descriptor import DescriptorKernel, descriptor_key
from jaxff.kernels.protocol import require_invariance
from jaxff.system import System
from jaxff.types import Array, Float, Int

__all__ = ["Descriptor", "Kernel"]

Descriptor = Callable[..., Array]
"""Function of ``(system, neighbors=None, **hyper)`` giving the features of one system.

For periodic systems one with an attribute ``cutoffs`` (or ``cutoff``, Å) gets neighbour lists for
these radii; any other is called without. One whose features permute with the atoms may offer
``permute(permutations) -> indices`` (as inverse distances do); any other is evaluated on every
permuted system.
"""


@dataclass(frozen=True, eq=False)
class Kernel(DescriptorKernel):
    r"""Symmetric kernel :math:`k(r, r') = \sum_p \kappa(\lVert\varphi(r_p) - \varphi(r')\rVert)`.

    The sum (not a mean) runs over a permutation group; without one, this is the plain kernel of
    GDML.

    Attributes:
        descriptor: Features of a system.
        base: Kernel on the features. Radial ones have a faster path, see
            :mod:`jaxff.gdml.expansion`.
        permutations: Closed group of atom permutations, identity included; ``None`` for the
            identity alone.
        translations: Generators of an abelian subgroup as a direct product of cyclic groups, such
            as those of :func:`jaxff.kernels.crystal_group`: sums over it take a Fourier transform,
            with the same result, see :mod:`jaxff.gdml.fourier`. It needs a descriptor that declares
            how its features permute.

    Raises:
        ValueError: If the permutations are no group, or the translations no abelian subgroup of it.
        TypeError: If the descriptor or the base kernel is none.

    Reference:
        Chmiela et al., Nat. Commun. 9, 3887 (2018), doi:10.1038/s41467-018-06169-2.
    """

    descriptor: Descriptor
    base: Any
    permutations: Int[np.ndarray, "perms atoms"] | None = None
    translations: Int[np.ndarray, "axes atoms"] | None = None

    def __post_init__(self):
        self.check_parts()
        for name in ("permutations", "translations"):
            rows = getattr(self, name)
            if rows is None:
                continue
            rows = np.array(rows)
            if name == "permutations":
                verify(rows)
            else:
                self._check_translations(rows)
            rows.flags.writeable = False
            object.__setattr__(self, name, rows if len(rows) else None)

    def _check_translations(self, generators: np.ndarray) -> None:
        group = self.permutations
        if group is None or generators.ndim != 2 or generators.shape[1] != group.shape[1]:
            shape = None if group is None else group.shape
            raise ValueError(
                "translations are rows that generate a part of the permutations, got shapes "
                f"{generators.shape} and {shape}"
            )
        if not hasattr(self.descriptor, "permute"):
            raise ValueError(
                "translations need a descriptor that declares how its features permute, such as "
                "smooth_images or inverse_distances: leave them out"
            )
        known = {row.tobytes() for row in np.ascontiguousarray(group)}
        if not all(row.tobytes() in known for row in elements(generators.astype(group.dtype))):
            raise ValueError("translations must be among the permutations: give both of one group")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Kernel) and self._content == other._content

    def __hash__(self) -> int:
        return hash(self._content)

    @cached_property
    def _content(self) -> tuple:
        """What makes two kernels the same program to JAX: equal ones share compilations."""
        group = self.permutations
        code = None if group is None else (len(group), group.tobytes())
        along = None if self.translations is None else self.translations.tobytes()
        return descriptor_key(self.descriptor), self.base, code, along

    def check_numbers(self, numbers: np.ndarray) -> None:
        """Refuse permutations that exchange different elements.

        Raises:
            ValueError: If they do.
        """
        if self.permutations is not None:
            verify(self.permutations, numbers)

    def check_systems(self, hyper: dict[str, Array], systems: System) -> None:
        """Let the descriptor look at the references; refuse permutations it does not follow.

        Raises:
            ValueError: If features do not, for the first and the last system, or the descriptor
                refuses the systems in a method ``inspect``.
        """
        inspect = getattr(self.descriptor, "inspect", None)
        if inspect is not None:
            inspect(systems)
        if self.permutations is None or self.feature_permutations is not None:
            return
        ends = jax.tree.map(lambda leaf: leaf[np.array([0, -1])], systems)
        first, second = jax.jit(jax.vmap(lambda s: self.permuted_features(hyper, s)))(ends)
        values = np.asarray(self.base.between(hyper["lengthscale"], first, second))
        require_invariance(values, values[0])

    def query(self, hyper: dict[str, Array], system: System) -> Float[Array, "perms features"]:
        """Features under every permutation."""
        return self.permuted_features(hyper, system)

    def reference(self, hyper: dict[str, Array], system: System) -> Float[Array, " features"]:
        """Features of one system."""
        return self.features(hyper, system)

    def compare(self, hyper: dict[str, Array], query: Array, reference: Array) -> Array:
        """Sum over permutations, by direct differences of features."""
        return jnp.sum(self.base.between(hyper["lengthscale"], query, reference[None]))

    def features(self, hyper: dict[str, Array], system: System) -> Float[Array, " features"]:
        """Features of one system."""
        return jnp.ravel(self.described(hyper, system))

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
        return jax.vmap(lambda p: self.features(hyper, permuted(system, p)))(
            jnp.asarray(self.permutations)
        )

    @cached_property
    def feature_permutations(self) -> Int[np.ndarray, "perms features"] | None:
        """Feature indices under each permutation, where the descriptor declares them."""
        permute = getattr(self.descriptor, "permute", None)
        if permute is None or self.permutations is None:
            return None
        return permute(self.permutations)

    @cached_property
    def cosets(self) -> Int[np.ndarray, "cosets atoms"]:
        """One element ``c`` of each coset ``c[translation]`` of the permutations.

        Raises:
            ValueError: Without translations.
        """
        if self.permutations is None or self.translations is None:
            raise ValueError("a kernel without translations has no cosets of them")
        return cosets(self.permutations, elements(self.translations))

    @property
    def order(self) -> int:
        """Number of permutations."""
        return 1 if self.permutations is None else len(self.permutations)
