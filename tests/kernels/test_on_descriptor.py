"""What a kernel says of parts that cannot be compared."""

import functools
from types import SimpleNamespace

import pytest

from jaxff.descriptors import inverse_distances
from jaxff.kernels import AtomicSum, Kernel, matern52
from jaxff.kernels.on_descriptor import DescriptorKernel


def no_system():
    return 1.0


def any_keywords(system, **hyper):
    return system.positions.ravel() * hyper["power"]


def own_scale(system, neighbors=None, *, lengthscale):
    return system.positions.ravel() / lengthscale


def powers(system, neighbors=None, *, power):
    return system.positions.ravel() ** power


@pytest.mark.parametrize("kind", [Kernel, AtomicSum])
@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ((inverse_distances, "matern52"), r"base kernel, such as .* got 'matern52'"),
        ((no_system, matern52), "no_system must take a system"),
        ((any_keywords, matern52), r"any_keywords must name its hyperparameters.*\*\*hyper"),
        ((own_scale, matern52), "own_scale has a keyword 'lengthscale'"),
    ],
)
def test_parts_that_are_none_are_refused(kind, parts, message):
    with pytest.raises(TypeError, match=message):
        kind(*parts)


@pytest.mark.parametrize("descriptor", [matern52, "inverse_distances"])
def test_what_cannot_be_called_is_no_descriptor(descriptor):
    """Called on its own: annotations, checked while tests run, would refuse it before."""
    parts = SimpleNamespace(descriptor=descriptor, base=matern52)
    with pytest.raises(TypeError, match=r"takes a descriptor, a function .* as the descriptor"):
        DescriptorKernel.check_parts(parts)


def test_bound_keywords_are_hyperparameters_still():
    kernel = Kernel(functools.partial(powers, power=2.0), matern52)
    assert kernel.hyper_names == ("lengthscale", "power")
