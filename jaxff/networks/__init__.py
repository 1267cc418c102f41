"""Neural potentials: flax modules behind the same interface as the kernels."""

from jaxff.networks.geomatt import (
    ATTENTION_PATHS,
    attention,
    attention_mask,
    geomatt,
    vertex_features,
)
from jaxff.networks.linen import from_linen

__all__ = [
    "ATTENTION_PATHS",
    "attention",
    "attention_mask",
    "from_linen",
    "geomatt",
    "vertex_features",
]
