"""What kernels have in common that compare the features of a descriptor by a base kernel."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from jaxff.kernels.listed import cutoffs_of, describe
from jaxff.kernels.protocol import Hyper, SystemKernel, check_names, check_positive
from jaxff.system import System
from jaxff.types import Array

__all__ = ["DescriptorKernel", "check_signature", "descriptor_key"]


class DescriptorKernel(SystemKernel):
    """Hyperparameters and smoothness that follow from a descriptor and a base kernel."""

    descriptor: Callable[..., Array]
    base: Any

    def check_parts(self) -> None:
        """Refuse what is no descriptor or no base kernel.

        Raises:
            TypeError: If one is not, or they are swapped, or keywords of the descriptor cannot be
                hyperparameters.
        """
        if not callable(self.descriptor):
            raise TypeError(
                "a kernel takes a descriptor, a function (system, neighbors=None, **hyper), and a "
                f"base kernel, got {self.descriptor!r} as the descriptor"
            )
        if not hasattr(self.base, "between"):
            raise TypeError(
                "a kernel takes a base kernel, such as jaxff.kernels.matern52, got "
                f"{self.base!r} after the descriptor"
            )
        check_signature(self.descriptor)

    @property
    def hyper_names(self) -> tuple[str, ...]:
        """Names of the hyperparameters: the length scale and those of the descriptor."""
        return ("lengthscale", *self.feature_names)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Hyperparameters of the descriptor."""
        return tuple(_named(self.descriptor))

    @property
    def smoothness(self) -> float:
        """Derivatives that exist at coincident systems: those of the base kernel."""
        return self.base.smoothness

    @property
    def uses(self) -> frozenset[str]:
        """Fields of a system that the descriptor says it reads, in an attribute ``uses``."""
        return frozenset(getattr(self.descriptor, "uses", ()))

    @property
    def cutoffs(self) -> tuple[float, ...]:
        """Radii in Å that the descriptor declares, see :func:`jaxff.kernels.listed.cutoffs_of`."""
        return cutoffs_of(self.descriptor)

    def described(self, hyper: Hyper, system: System) -> Array:
        """What the descriptor gives for a single system."""
        return describe(self.descriptor, system, _of_descriptor(hyper))

    def descriptors(self, hyper: Mapping[str, Any]) -> tuple[tuple[Any, dict[str, Any]], ...]:
        """The descriptor with its hyperparameters."""
        return ((self.descriptor, _of_descriptor(hyper)),)

    def check_hyper(self, hyper: Mapping[str, Any]) -> None:
        """Refuse hyperparameters other than the expected ones.

        Raises:
            ValueError: If one is missing or unknown, or the length scale is not one positive
                number.
        """
        named = _named(self.descriptor)
        required = [n for n, p in named.items() if p.default is inspect.Parameter.empty]
        check_names(hyper, self.hyper_names, ("lengthscale", *required))
        check_positive("lengthscale", hyper["lengthscale"], ", in the unit of the descriptor")


def _of_descriptor(hyper: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in hyper.items() if name != "lengthscale"}


def _named(descriptor: Callable[..., Array]) -> dict[str, inspect.Parameter]:
    """Keywords of a descriptor beside the system, its first argument, and the neighbors."""
    _, *others = inspect.signature(descriptor).parameters.items()
    return {n: p for n, p in others if n != "neighbors"}


def check_signature(descriptor: Callable[..., Array]) -> None:
    """Refuse a descriptor whose hyperparameters cannot be told by name.

    Raises:
        TypeError: If it takes no system, any keywords, or one that kernels have themselves.
    """
    parameters = list(inspect.signature(descriptor).parameters.values())
    name = getattr(descriptor, "__name__", type(descriptor).__name__)
    if not parameters:
        raise TypeError(f"descriptor {name} must take a system as its first argument, takes none")
    wild = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    for parameter in parameters:
        if parameter.kind in wild:
            raise TypeError(
                f"descriptor {name} must name its hyperparameters as keywords, got {parameter}: "
                "write them out, or bind them by functools.partial"
            )
    if any(parameter.name == "lengthscale" for parameter in parameters[1:]):
        raise TypeError(
            f"descriptor {name} has a keyword 'lengthscale', which is that of the kernel: rename it"
        )


def descriptor_key(descriptor: Callable[..., Array]) -> Any:
    """What makes two descriptors equal to JAX; a record that holds arrays equals only itself."""
    try:
        hash(descriptor)
    except TypeError:
        return id(descriptor)
    return descriptor
