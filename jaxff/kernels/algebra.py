"""Kernels made of kernels: sums, products and scaling.

Hyperparameters travel in one flat dictionary. Those of a part of a sum or product are named by the
part and a dot, ``"0.lengthscale"``, where parts are numbered unless names were given: no two parts
ever share a value.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from jaxff.kernels.protocol import (
    Hyper,
    SystemKernel,
    check_positive,
    descriptors_of,
    is_kernel,
    of_features,
    stage,
)
from jaxff.system import System
from jaxff.types import Array

__all__ = ["Product", "Scaled", "Sum", "product_of", "sum_of"]


def part(hyper: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Hyperparameters of one part of a sum or product, by their own names."""
    start = f"{name}."
    return {key[len(start) :]: value for key, value in hyper.items() if key.startswith(start)}


@dataclass(frozen=True)
class _Composite(SystemKernel):
    """Parts with names.

    Attributes:
        kernels: The parts.
        names: One name each, from which their hyperparameters are named; default 0, 1, ….

    Raises:
        TypeError: If a part is no kernel.
        ValueError: If there are none, or names do not tell them apart.
    """

    kernels: tuple[Any, ...]
    names: tuple[str, ...] = ()

    def __post_init__(self):
        object.__setattr__(self, "kernels", tuple(self.kernels))
        if not self.kernels:
            raise ValueError(f"{type(self).__name__} needs at least one kernel, got none")
        for index, kernel in enumerate(self.kernels):
            if not is_kernel(kernel):
                raise TypeError(
                    f"{type(self).__name__} takes kernels, got {type(kernel).__name__} at {index}"
                )
        names = tuple(self.names) or tuple(str(i) for i in range(len(self.kernels)))
        if len(set(names)) < len(self.kernels) or len(names) != len(self.kernels):
            raise ValueError(
                f"{len(self.kernels)} kernels need as many different names, got {names}"
            )
        if not all(name and "." not in name for name in names):
            raise ValueError(f"names of kernels must be words without a dot, got {names}")
        object.__setattr__(self, "names", names)

    @cached_property
    def parts(self) -> tuple[tuple[str, Any], ...]:
        """Pairs of name and kernel."""
        return tuple(zip(self.names, self.kernels, strict=True))

    @property
    def hyper_names(self) -> tuple[str, ...]:
        """Names of the hyperparameters, each with its part."""
        return tuple(f"{name}.{own}" for name, kernel in self.parts for own in kernel.hyper_names)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Those on which the features depend."""
        return tuple(f"{name}.{own}" for name, kernel in self.parts for own in of_features(kernel))

    @property
    def smoothness(self) -> float:
        """That of the roughest part."""
        return min(kernel.smoothness for kernel in self.kernels)

    @property
    def order(self) -> int:
        """Terms of all parts."""
        return sum(kernel.order for kernel in self.kernels)

    @property
    def uses(self) -> frozenset[str]:
        """What any part reads."""
        return frozenset().union(*(getattr(kernel, "uses", ()) for kernel in self.kernels))

    @property
    def cutoffs(self) -> tuple[float, ...]:
        """What any part needs."""
        needed = (getattr(kernel, "cutoffs", ()) for kernel in self.kernels)
        return tuple(sorted({cutoff for own in needed for cutoff in own}))

    def descriptors(self, hyper: Mapping[str, Any]) -> tuple[tuple[Any, dict[str, Any]], ...]:
        """Those of all parts."""
        return tuple(
            own for name, kernel in self.parts for own in descriptors_of(kernel, part(hyper, name))
        )

    def check_hyper(self, hyper: Mapping[str, Any]) -> None:
        """Refuse hyperparameters that are missing, unknown or unusable, by the check of each part.

        Raises:
            ValueError: If there are such.
        """
        stray = {key for key in hyper if key.partition(".")[0] not in self.names or "." not in key}
        if stray:
            raise ValueError(f"hyper must name {self.hyper_names}; unknown {sorted(stray)}")
        for name, kernel in self.parts:
            try:
                kernel.check_hyper(part(hyper, name))
            except ValueError as error:
                raise ValueError(f"part {name!r}: {error}") from error

    def check_numbers(self, numbers: np.ndarray) -> None:
        """The checks of all parts."""
        for kernel in self.kernels:
            if hasattr(kernel, "check_numbers"):
                kernel.check_numbers(numbers)

    def check_systems(self, hyper: Hyper, systems: System) -> None:
        """The checks of all parts."""
        for name, kernel in self.parts:
            if hasattr(kernel, "check_systems"):
                kernel.check_systems(part(hyper, name), systems)

    def query(self, hyper: Hyper, system: System) -> Any:
        """Features of all parts."""
        return tuple(
            stage(kernel, "query")(part(hyper, name), system) for name, kernel in self.parts
        )

    def reference(self, hyper: Hyper, system: System) -> Any:
        """Features of all parts."""
        return tuple(stage(k, "reference")(part(hyper, name), system) for name, k in self.parts)

    def _values(self, hyper: Hyper, query: Any, reference: Any) -> list[Array]:
        return [
            stage(kernel, "compare")(part(hyper, name), first, second)
            for (name, kernel), first, second in zip(self.parts, query, reference, strict=True)
        ]


class Sum(_Composite):
    r"""Sum of kernels, :math:`\sum_i k_i`.

    ``Sum((a, b))`` has hyperparameters ``"0.lengthscale"``, ``"1.lengthscale"`` and so on;
    ``Sum((a, b), ("near", "far"))`` has ``"near.lengthscale"`` and ``"far.lengthscale"``.
    ``a + b + c`` is one sum of three.
    """

    def compare(self, hyper: Hyper, query: Any, reference: Any) -> Array:
        """Sum over the parts."""
        values = self._values(hyper, query, reference)
        return sum(values[1:], start=values[0])


class Product(_Composite):
    r"""Product of kernels, :math:`\prod_i k_i`; hyperparameters are named as for :class:`Sum`."""

    def compare(self, hyper: Hyper, query: Any, reference: Any) -> Array:
        """Product over the parts."""
        first, *others = self._values(hyper, query, reference)
        for value in others:
            first = first * value
        return first


def _flattened(kind: type[_Composite], kernels: Iterable[Any]) -> tuple[Any, ...]:
    """Parts of unnamed composites of a kind take the place of these."""
    flat: list[Any] = []
    for kernel in kernels:
        numbered = type(kernel) is kind and kernel.names == tuple(
            str(i) for i in range(len(kernel.kernels))
        )
        flat.extend(kernel.kernels if numbered else (kernel,))
    return tuple(flat)


def sum_of(*kernels: Any) -> Sum:
    """Sum of kernels, in which the parts of sums without names are counted through."""
    return Sum(_flattened(Sum, kernels))


def product_of(*kernels: Any) -> Product:
    """Product of kernels, in which the parts of products without names are counted through."""
    return Product(_flattened(Product, kernels))


@dataclass(frozen=True)
class Scaled(SystemKernel):
    """A kernel times a positive number: a fixed one, or a hyperparameter.

    Attributes:
        kernel: The kernel.
        factor: The number; ``None`` makes it a hyperparameter.
        name: Name of that hyperparameter, next to those of the kernel itself.

    Raises:
        ValueError: If the number is not positive, or the name is one of the kernel's own.
    """

    kernel: Any
    factor: float | None = None
    name: str = "scale"

    def __post_init__(self):
        if not is_kernel(self.kernel):
            raise TypeError(f"Scaled takes a kernel, got {type(self.kernel).__name__}")
        if self.factor is not None:
            check_positive("the factor of a kernel", self.factor, "")
        elif self.name in self.kernel.hyper_names:
            raise ValueError(
                f"the kernel has a hyperparameter {self.name!r} of its own: give Scaled(name=...)"
            )

    @property
    def hyper_names(self) -> tuple[str, ...]:
        """Those of the kernel, and the factor unless it is fixed."""
        own = () if self.factor is not None else (self.name,)
        return (*self.kernel.hyper_names, *own)

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
        """That of the kernel."""
        return self.kernel.order

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
        return descriptors_of(self.kernel, self.own_hyper(hyper))

    def check_hyper(self, hyper: Mapping[str, Any]) -> None:
        """Refuse hyperparameters that are missing, unknown or unusable.

        Raises:
            ValueError: If there are such.
        """
        if self.factor is None:
            if self.name not in hyper:
                raise ValueError(f"hyper must name {self.hyper_names}; missing [{self.name!r}]")
            check_positive(self.name, hyper[self.name], "")
        self.kernel.check_hyper(self.own_hyper(hyper))

    def check_numbers(self, numbers: np.ndarray) -> None:
        """The check of the kernel."""
        if hasattr(self.kernel, "check_numbers"):
            self.kernel.check_numbers(numbers)

    def check_systems(self, hyper: Hyper, systems: System) -> None:
        """The check of the kernel."""
        if hasattr(self.kernel, "check_systems"):
            self.kernel.check_systems(self.own_hyper(hyper), systems)

    def query(self, hyper: Hyper, system: System) -> Any:
        """Features of the kernel."""
        return stage(self.kernel, "query")(self.own_hyper(hyper), system)

    def reference(self, hyper: Hyper, system: System) -> Any:
        """Features of the kernel."""
        return stage(self.kernel, "reference")(self.own_hyper(hyper), system)

    def compare(self, hyper: Hyper, query: Any, reference: Any) -> Array:
        """The kernel times the factor."""
        return self.factor_of(hyper) * stage(self.kernel, "compare")(
            self.own_hyper(hyper), query, reference
        )

    def factor_of(self, hyper: Mapping[str, Any]) -> Any:
        """The factor, fixed or among the hyperparameters."""
        return hyper[self.name] if self.factor is None else self.factor

    def own_hyper(self, hyper: Mapping[str, Any]) -> dict[str, Any]:
        """Hyperparameters of the kernel itself."""
        if self.factor is not None:
            return dict(hyper)
        return {name: value for name, value in hyper.items() if name != self.name}
