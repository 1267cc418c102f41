"""Neural potentials: flax modules behind the same interface as the kernels."""

from jaxff.networks.linen import from_linen

__all__ = ["from_linen"]
