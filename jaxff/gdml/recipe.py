"""Recipes of kernels: what a file must hold to rebuild them."""

from typing import Any

import numpy as np

from jaxff import descriptors
from jaxff.kernels.algebra import Product, Scaled, Sum
from jaxff.kernels.kernel import Kernel
from jaxff.kernels.symmetrized import AtomicSum, GlobalSymmetry
from jaxff.potential import Spec

__all__ = ["kernel_spec"]


def kernel_spec(kernel: Any) -> Spec | None:
    """Recipe of the potential of a kernel; ``None`` if a part of it is an unnamed function."""
    if isinstance(kernel, Kernel):
        arguments = _arguments(kernel)
        return None if arguments is None else Spec("gdml", arguments)
    part = _part(kernel)
    return None if part is None else Spec("kernel_potential", {"kernel": part})


def _part(kernel: Any) -> Spec | None:
    arguments: dict[str, Any] | None = None
    if isinstance(kernel, Kernel | AtomicSum):
        arguments = _arguments(kernel)
    elif isinstance(kernel, Sum | Product):
        parts = [_part(k) for k in kernel.kernels]
        if not any(part is None for part in parts):
            arguments = {"kernels": parts, "names": kernel.names}
    elif isinstance(kernel, Scaled):
        part = _part(kernel.kernel)
        if part is not None:
            arguments = {"kernel": part, "factor": kernel.factor, "name": kernel.name}
    elif isinstance(kernel, GlobalSymmetry) and isinstance(kernel.group, np.ndarray):
        part = _part(kernel.kernel)
        if part is not None:
            arguments = {"kernel": part, "group": kernel.group}
    return None if arguments is None else Spec(type(kernel).__name__, arguments)


def _arguments(kernel: Kernel | AtomicSum) -> dict[str, Any] | None:
    known = descriptors.record(kernel.descriptor)
    name = Spec(*known) if known else getattr(kernel.descriptor, "name", None)
    if name is None:
        return None
    arguments = {"descriptor": name, "base": _base(kernel.base)}
    if isinstance(kernel, Kernel):
        arguments["permutations"] = kernel.permutations
        arguments["translations"] = kernel.translations
    return arguments


def _base(base: Any) -> str | Spec:
    """The name of a base kernel, with its numbers if it has some."""
    if not base.arguments:
        return base.name
    nested = {k: _base(v) if hasattr(v, "arguments") else v for k, v in base.arguments}
    return Spec(base.name, nested)
