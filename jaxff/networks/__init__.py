"""Neural potentials: flax modules behind the same interface as the kernels."""

from jaxff.networks.descriptor_mlp import descriptor_mlp
from jaxff.networks.geomatt import (
    ATTENTION_PATHS,
    attention,
    attention_mask,
    geomatt,
    vertex_features,
)
from jaxff.networks.linen import from_linen
from jaxff.networks.painn import painn
from jaxff.networks.schnet import schnet, schnet_2017
from jaxff.networks.so3krates import so3krates
from jaxff.networks.so3lr import so3lr
from jaxff.networks.spookynet import spookynet
from jaxff.networks.tabulated import tabulated

__all__ = [
    "ATTENTION_PATHS",
    "attention",
    "attention_mask",
    "descriptor_mlp",
    "from_linen",
    "geomatt",
    "painn",
    "schnet",
    "schnet_2017",
    "so3krates",
    "so3lr",
    "spookynet",
    "tabulated",
    "vertex_features",
]
