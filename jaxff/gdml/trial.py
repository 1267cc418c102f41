"""Trying the descriptors of a kernel where its references are placed, each once."""

import functools
from dataclasses import dataclass, field
from typing import Any

import jax

from jaxff import descriptors
from jaxff.kernels.listed import ListedSystem, cutoffs_of
from jaxff.kernels.on_descriptor import descriptor_key
from jaxff.kernels.protocol import descriptors_of
from jaxff.system import System

__all__ = ["try_descriptors"]


def try_descriptors(kernel: Any, hyper: dict[str, Any], references: System) -> None:
    """Check every descriptor that is not one of the library on the first reference.

    Refits with the same descriptor, number of atoms and names of hyperparameters try nothing again.

    Raises:
        TypeError: As :func:`jaxff.descriptors.check`.
        ValueError: As :func:`jaxff.descriptors.check`.

    Warns:
        UserWarning: As :func:`jaxff.descriptors.check`.
    """
    first = None
    for descriptor, own in descriptors_of(kernel, hyper):
        if descriptors.is_known(descriptor):
            continue
        first = jax.tree.map(lambda leaf: leaf[0], references) if first is None else first
        key = (descriptor_key(descriptor), first.atom_count, first.cell is None, tuple(sorted(own)))
        _try_once(_Trial(key, descriptor, own, first))


@dataclass(frozen=True)
class _Trial:
    """What is tried; equal to any other with the same key."""

    key: tuple
    descriptor: Any = field(compare=False)
    hyper: dict[str, Any] = field(compare=False)
    system: System = field(compare=False)


@functools.lru_cache(maxsize=256)
def _try_once(trial: _Trial) -> None:
    """Check, and remember only what passed: errors are not kept."""
    system, neighbors = trial.system, None
    if isinstance(system, ListedSystem):
        neighbors = system.neighbors if cutoffs_of(trial.descriptor) else None
        system = system.bare
    descriptors.check(trial.descriptor, system, trial.hyper, neighbors)
