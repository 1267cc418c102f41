"""Kernels made symmetric: sums over a group that acts on systems, and over pairs of atoms."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxff.kernels.groups import verify
from jaxff.kernels.listed import ListedSystem, listed, permuted
from jaxff.kernels.on_descriptor import DescriptorKernel, descriptor_key
from jaxff.kernels.protocol import (
    Hyper,
    SystemKernel,
    descriptors_of,
    is_kernel,
    of_features,
    require_invariance,
    stage,
)
from jaxff.neighbors import displacements
from jaxff.system import System
from jaxff.types import Array, Float

__all__ = [
    "AtomicSum",
    "GlobalSymmetry",
]

Action = Callable[[System], System]


@dataclass(frozen=True, eq=False)
class GlobalSymmetry(SystemKernel):
    r"""Any kernel summed over a finite group, :math:`\sum_g k(g\,r, r')`.

    The kernel must not change if the group acts on both systems, as one does whose features permute
    with the atoms, or do not change at all; otherwise the sum is not symmetric in its arguments.
    References are checked for that.

    Attributes:
        kernel: The kernel.
        group: Permutations of atoms ``(perms, atoms)``, or functions from systems to systems, one
            for each element of the group, the identity among them. Systems keep the neighbour lists
            that they carry, so that with lists functions may turn, mirror or shift positions and
            cell together, but not exchange atoms.

    Raises:
        ValueError: If the permutations are no group, or there are no functions.

    Reference:
        Haasdonk & Burkhardt, Mach. Learn. 68, 35 (2007), doi:10.1007/s10994-007-5009-7.
    """

    kernel: Any
    group: np.ndarray | tuple[Action, ...]

    def __post_init__(self):
        if not is_kernel(self.kernel):
            raise TypeError(f"GlobalSymmetry takes a kernel, got {type(self.kernel).__name__}")
        if isinstance(self.group, np.ndarray):
            group = np.array(verify(self.group))
            group.flags.writeable = False
        else:
            group = tuple(self.group)
            if not group or not all(callable(action) for action in group):
                raise ValueError(
                    "a group is an array of permutations (perms, atoms), or at least one function "
                    "from a system to a system"
                )
        object.__setattr__(self, "group", group)

    @cached_property
    def _content(self) -> tuple:
        if isinstance(self.group, np.ndarray):
            return self.kernel, len(self.group), self.group.tobytes()
        return self.kernel, self.group

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GlobalSymmetry) and self._content == other._content

    def __hash__(self) -> int:
        return hash(self._content)

    @property
    def hyper_names(self) -> tuple[str, ...]:
        """Those of the kernel."""
        return self.kernel.hyper_names

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Those of the kernel."""
        return of_features(self.kernel)

    @property
    def smoothness(self) -> float:
        """That of the kernel."""
        return self.kernel.smoothness

    @property
    def order(self) -> int:
        """Terms of the kernel times those of the group."""
        return len(self.group) * self.kernel.order

    @property
    def uses(self) -> frozenset[str]:
        """What the kernel reads."""
        return frozenset(getattr(self.kernel, "uses", ()))

    @property
    def cutoffs(self) -> tuple[float, ...]:
        """What the kernel needs."""
        return tuple(getattr(self.kernel, "cutoffs", ()))

    def descriptors(self, hyper: Mapping[str, Any]) -> tuple[tuple[Any, dict[str, Any]], ...]:
        """Those of the kernel."""
        return descriptors_of(self.kernel, hyper)

    def check_hyper(self, hyper: Mapping[str, Any]) -> None:
        """The check of the kernel."""
        self.kernel.check_hyper(hyper)

    def check_numbers(self, numbers: np.ndarray) -> None:
        """Refuse permutations that exchange different elements.

        Raises:
            ValueError: If they do.
        """
        if hasattr(self.kernel, "check_numbers"):
            self.kernel.check_numbers(numbers)
        if isinstance(self.group, np.ndarray):
            verify(self.group, numbers)

    def check_systems(self, hyper: Hyper, systems: System) -> None:
        """Refuse a kernel that changes if an element of the group acts on both systems.

        Raises:
            ValueError: If it does, for the first and last system.
        """
        if hasattr(self.kernel, "check_systems"):
            self.kernel.check_systems(hyper, systems)
        count = systems.positions.shape[0]
        first, second = (jax.tree.map(lambda leaf, i=i: leaf[i], systems) for i in (0, count - 1))
        if isinstance(first, ListedSystem) and not isinstance(self.group, np.ndarray):
            _require_same_neighbors(first, self._images(first))
        moved = jax.jit(
            lambda a, b: jax.vmap(lambda x, y: self.kernel(hyper, x, y))(
                self._images(a), self._images(b)
            )
        )(first, second)
        plain = float(self.kernel(hyper, first, second))
        swapped = float(self(hyper, first, second)) - float(self(hyper, second, first))
        require_invariance(np.asarray(moved), plain, swapped)

    def _images(self, system: System) -> System:
        """The system under every element, as a stack."""
        if isinstance(self.group, np.ndarray):
            if self.group.shape[1] != system.atom_count:
                raise ValueError(
                    f"permutations act on {self.group.shape[1]} atoms, the system has "
                    f"{system.atom_count}"
                )
            return jax.vmap(permuted, (None, 0))(system, jnp.asarray(self.group))
        images = [_moved(action, system) for action in self.group]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *images)

    def query(self, hyper: Hyper, system: System) -> Any:
        """Features of every image."""
        return jax.vmap(lambda s: stage(self.kernel, "query")(hyper, s))(self._images(system))

    def reference(self, hyper: Hyper, system: System) -> Any:
        """Features of the system itself."""
        return stage(self.kernel, "reference")(hyper, system)

    def compare(self, hyper: Hyper, query: Any, reference: Any) -> Array:
        """Sum over the group."""
        compare = stage(self.kernel, "compare")
        return jnp.sum(jax.vmap(lambda q: compare(hyper, q, reference))(query))


def _moved(action: Action, system: System) -> System:
    """The image of a system, with the lists of the system itself if it carries some."""
    if not isinstance(system, ListedSystem):
        return action(system)
    return listed(action(system.bare), system.neighbors)


def _require_same_neighbors(system: ListedSystem, images: System) -> None:
    """Refuse images in which the lists no longer lead to the same distances.

    Raises:
        ValueError: If there are such, for a group of functions that exchanges or scales.
    """

    def lengths(of: Any) -> list[Array]:
        found = (displacements(of.bare, pairs) for pairs in of.neighbors.pairs)
        return [jnp.where(mask, jnp.sum(vectors**2, axis=-1), 0.0) for vectors, mask in found]

    for before, after in zip(lengths(system), jax.vmap(lengths)(images), strict=True):
        kept = np.asarray(before)
        if not np.allclose(after, kept, rtol=1e-8, atol=1e-8):
            raise ValueError(
                "an element of the group changes the distances of atoms in the neighbor lists: "
                "functions must move positions and cell together, by turning, mirroring or "
                "shifting; give exchanges of atoms as permutations (perms, atoms)"
            )


@dataclass(frozen=True, eq=False)
class AtomicSum(DescriptorKernel):
    r"""Sum over atoms, :math:`\sum_{ab} \delta_{Z_a Z_b}\, \kappa(\varphi_a, \varphi'_b)`.

    It does not depend on the order of the atoms of an element, whatever the features, and needs no
    permutations. Padding atoms (number 0) do not count.

    Attributes:
        descriptor: Function as for :class:`jaxff.kernels.Kernel`, with features ``(atoms, D)``.
        base: Kernel on the features of two atoms.

    Reference:
        Bartók et al., Phys. Rev. Lett. 104, 136403 (2010), doi:10.1103/PhysRevLett.104.136403;
        Christensen et al., J. Chem. Phys. 152, 044107 (2020), doi:10.1063/1.5126701.
    """

    descriptor: Callable[..., Array]
    base: Any

    def __post_init__(self):
        self.check_parts()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AtomicSum) and self._content == other._content

    def __hash__(self) -> int:
        return hash(self._content)

    @cached_property
    def _content(self) -> tuple:
        return descriptor_key(self.descriptor), self.base

    def features(self, hyper: Hyper, system: System) -> Float[Array, "atoms features"]:
        """Features of all atoms.

        Raises:
            ValueError: If the descriptor does not give one row per atom.
        """
        features = self.described(hyper, system)
        if features.ndim != 2 or features.shape[0] != system.atom_count:
            raise ValueError(
                f"a kernel on atoms needs features of shape ({system.atom_count}, features), one "
                f"row per atom, got {features.shape}; for features of the whole system use Kernel"
            )
        return features

    def query(self, hyper: Hyper, system: System) -> dict[str, Array]:
        """Features of all atoms, and their elements, as floats: these have tangents, all zero."""
        features = self.features(hyper, system)
        return {"features": features, "numbers": system.numbers.astype(features.dtype)}

    def reference(self, hyper: Hyper, system: System) -> dict[str, Array]:
        """The same."""
        return self.query(hyper, system)

    def compare(self, hyper: Hyper, query: Any, reference: Any) -> Array:
        """Sum over pairs of atoms."""
        first, second = query["numbers"][:, None], reference["numbers"][None]
        pairs = self.base.between(
            hyper["lengthscale"], query["features"][:, None], reference["features"][None]
        )
        return jnp.sum(jnp.where((first == second) & (first > 0), pairs, 0.0))
