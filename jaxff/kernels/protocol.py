"""What every kernel on systems offers.

A kernel on systems is anything that offers ``kernel(hyper, system, other)``, a scalar that is
symmetric in the two systems and positive semidefinite, and ``hyper_names``, ``check_hyper``,
``smoothness`` and ``order`` (:class:`SystemKernel` has the defaults). One that does its work in two
steps, features of each system and their comparison, overrides ``query``, ``reference`` and
``compare`` instead: features of references are then computed once. Neighbour lists, if it declares
``cutoffs``, come with the systems (:class:`jaxff.kernels.listed.ListedSystem`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxff.kernels.listed import listed
from jaxff.system import System
from jaxff.types import Array

if TYPE_CHECKING:
    from jaxff.kernels.algebra import Product, Scaled, Sum

__all__ = [
    "Hyper",
    "SystemKernel",
    "check_names",
    "check_positive",
    "descriptors_of",
    "is_kernel",
    "of_features",
    "require_invariance",
    "stage",
]

Hyper = dict[str, Array]


class SystemKernel:
    """Defaults and operators of kernels on systems."""

    @property
    def hyper_names(self) -> tuple[str, ...]:
        """Names of all hyperparameters."""
        return ()

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Those on which the features of references depend."""
        return ()

    @property
    def smoothness(self) -> float:
        """How many derivatives with respect to the systems exist where they coincide."""
        return float("inf")

    @property
    def order(self) -> int:
        """How many terms are summed, for estimates of cost."""
        return 1

    @property
    def uses(self) -> frozenset[str]:
        """Which of ``charge``, ``spin`` and ``electric_field`` it reads."""
        return frozenset()

    @property
    def cutoffs(self) -> tuple[float, ...]:
        """Radii in Å of the lists that it needs of periodic systems."""
        return ()

    def __call__(
        self,
        hyper: Hyper,
        system: System,
        other: System,
        neighbors: Any = None,
        other_neighbors: Any = None,
    ) -> Array:
        """Kernel of two single systems, with their neighbour lists where it needs some."""
        query = self.query(hyper, listed(system, neighbors))
        return self.compare(hyper, query, self.reference(hyper, listed(other, other_neighbors)))

    def query(self, hyper: Hyper, system: System) -> Any:
        """Features of a system as the first argument: a pytree."""
        del hyper
        return system

    def reference(self, hyper: Hyper, system: System) -> Any:
        """Features of a system as the second argument: a pytree."""
        del hyper
        return system

    def compare(self, hyper: Hyper, query: Any, reference: Any) -> Array:
        """Kernel of the features of two systems."""
        return self(hyper, query, reference)

    def descriptors(self, hyper: Mapping[str, Any]) -> tuple[tuple[Any, dict[str, Any]], ...]:
        """All descriptors it is made of, each with its own hyperparameters."""
        del hyper
        return ()

    def check_hyper(self, hyper: Mapping[str, Any]) -> None:
        """Refuse hyperparameters that are missing, unknown or unusable.

        Raises:
            ValueError: If there are such.
        """
        check_names(hyper, self.hyper_names, self.hyper_names)

    def check_numbers(self, numbers: np.ndarray) -> None:
        """Refuse atoms whose elements a group of the kernel would exchange.

        Raises:
            ValueError: If there are such.
        """
        del numbers

    def check_systems(self, hyper: Hyper, systems: System) -> None:
        """Refuse a stack of systems for which it is no kernel.

        Raises:
            ValueError: If there are such.
        """
        del hyper, systems

    def __add__(self, other: Any) -> Sum:
        from jaxff.kernels.algebra import sum_of

        if not is_kernel(other):
            return NotImplemented
        return sum_of(self, other)

    def __mul__(self, other: Any) -> Product | Scaled:
        from jaxff.kernels.algebra import Scaled, product_of

        if is_kernel(other):
            return product_of(self, other)
        return Scaled(self, float(other)) if np.ndim(other) == 0 else NotImplemented

    def __rmul__(self, other: Any) -> Scaled:
        from jaxff.kernels.algebra import Scaled

        return Scaled(self, float(other)) if np.ndim(other) == 0 else NotImplemented


def is_kernel(candidate: Any) -> bool:
    """Whether an object offers what a kernel must."""
    return callable(candidate) and hasattr(candidate, "hyper_names")


def check_names(hyper: Mapping[str, Any], known: Iterable[str], required: Iterable[str]) -> None:
    """Refuse hyperparameters that are missing or unknown.

    Raises:
        ValueError: If there are such.
    """
    known = tuple(known)
    missing, unknown = set(required) - set(hyper), set(hyper) - set(known)
    if missing or unknown:
        raise ValueError(
            f"hyper must name {known}; missing {sorted(missing)}, unknown {sorted(unknown)}"
        )


def check_positive(name: str, value: Any, unit: str) -> None:
    """Refuse what is not one positive number.

    Raises:
        ValueError: With the name and the unit.
    """
    number = np.asarray(value)
    if (
        number.shape != ()
        or number.dtype.kind not in "iuf"
        or not (np.isfinite(number) and number > 0)
    ):
        raise ValueError(f"{name} must be one positive number{unit}, got {value!r}")


def require_invariance(moved: np.ndarray, plain: float, swapped: float = 0.0) -> None:
    """Refuse a kernel that a group changes by acting on both systems.

    Args:
        moved: The kernel of two systems after each element of the group acted on both.
        plain: The kernel of the two systems.
        swapped: By how much the sum over the group changes if the two are exchanged.

    Raises:
        ValueError: If it does.
    """
    spread, size = float(np.max(np.abs(moved - plain))), 1e-8 * max(abs(plain), 1e-300)
    if not (spread <= size and abs(swapped) <= size * len(moved)):
        raise ValueError(
            "the kernel changes if the group acts on both systems (or the group lacks "
            f"inverses): by {spread:.1e} of {plain:.1e}; the features must be permuted or "
            "left alone by it, and the kernel must treat all features alike"
        )


def of_features(kernel: Any) -> tuple[str, ...]:
    """Hyperparameters that the features depend on; none if systems themselves are the features."""
    return tuple(getattr(kernel, "feature_names", ()))


def descriptors_of(kernel: Any, hyper: Mapping[str, Any]) -> tuple[tuple[Any, dict[str, Any]], ...]:
    """All descriptors a kernel is made of, with their hyperparameters, if it tells them."""
    return kernel.descriptors(hyper) if hasattr(kernel, "descriptors") else ()


def stage(kernel: Any, name: str) -> Any:
    """A step of a kernel; one that only offers a call has systems for features."""
    own = getattr(kernel, name, None)
    if own is not None:
        return own
    return kernel if name == "compare" else lambda hyper, system: system
