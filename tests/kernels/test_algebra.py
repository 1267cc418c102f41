import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kernel_models import SWAP, log_distances, powers, water

from jaxff.descriptors import inverse_distances
from jaxff.kernels import Kernel, Product, Scaled, Sum, SystemKernel, matern32, matern52, rbf
from jaxff.kernels.protocol import stage

FIRST = Kernel(inverse_distances, matern52, SWAP)
SECOND = Kernel(log_distances, rbf)
POWERS = Kernel(powers, matern32)
A, B = (jax.tree.map(lambda leaf, i=i: leaf[i], water(2)) for i in (0, 1))
ONE, TWO = {"lengthscale": jnp.asarray(0.7)}, {"lengthscale": jnp.asarray(1.3)}
BOTH = {"0.lengthscale": ONE["lengthscale"], "1.lengthscale": TWO["lengthscale"]}


class Overlap(SystemKernel):
    """A kernel that only offers a call: the overlap of Gaussians on the atoms."""

    def __call__(self, hyper, system, other):
        difference = system.positions[:, None] - other.positions[None]
        return jnp.sum(jnp.exp(-jnp.sum(difference**2, axis=-1)))


def test_a_kernel_of_two_systems_sums_over_permutations():
    features = [inverse_distances(s) for s in (A, B)]
    swapped = inverse_distances(A.replace(positions=A.positions[SWAP[1]]))
    expected = sum(
        matern52.derivative(0, jnp.sum((x - features[1]) ** 2) / 0.49)
        for x in (features[0], swapped)
    )
    assert np.isclose(FIRST(ONE, A, B), expected, rtol=1e-14)
    assert np.isclose(FIRST(ONE, B, A), expected, rtol=1e-14)


def test_sums_products_and_factors_are_those_of_the_values():
    first, second = FIRST(ONE, A, B), SECOND(TWO, A, B)
    assert np.isclose((FIRST + SECOND)(BOTH, A, B), first + second, rtol=1e-14)
    assert np.isclose((FIRST * SECOND)(BOTH, A, B), first * second, rtol=1e-14)
    assert np.isclose((2.5 * FIRST)(ONE, A, B), 2.5 * first, rtol=1e-14)
    assert np.isclose((FIRST * 2.5)(ONE, A, B), 2.5 * first, rtol=1e-14)
    scaled = Scaled(SECOND)
    assert np.isclose(scaled({**TWO, "scale": jnp.asarray(3.0)}, A, B), 3 * second, rtol=1e-14)


def test_hyperparameters_are_named_by_place_or_by_name_and_never_shared():
    assert (FIRST + POWERS).hyper_names == ("0.lengthscale", "1.lengthscale", "1.exponent")
    named = Sum((FIRST, SECOND), ("near", "far"))
    assert named.hyper_names == ("near.lengthscale", "far.lengthscale")
    assert Scaled(FIRST, name="height").hyper_names == ("lengthscale", "height")
    assert (2.0 * FIRST).hyper_names == ("lengthscale",)
    nested = named * Scaled(POWERS)
    assert nested.hyper_names == (
        "0.near.lengthscale", "0.far.lengthscale", "1.lengthscale", "1.exponent", "1.scale",
    )  # fmt: skip
    assert nested.feature_names == ("1.exponent",)
    near = {"near.lengthscale": ONE["lengthscale"], "far.lengthscale": TWO["lengthscale"]}
    assert np.isclose(named(near, A, B), (FIRST + SECOND)(BOTH, A, B), rtol=1e-15)


def test_unnamed_sums_are_counted_through():
    total = FIRST + SECOND + POWERS
    assert total == Sum((FIRST, SECOND, POWERS))
    assert hash(total) == hash(Sum((FIRST, SECOND, POWERS)))
    assert total != Product((FIRST, SECOND, POWERS))
    assert (FIRST * SECOND * POWERS).kernels == (FIRST, SECOND, POWERS)
    named = Sum((FIRST, SECOND), ("a", "b"))
    assert (named + POWERS).hyper_names[0] == "0.a.lengthscale"


def test_smoothness_is_that_of_the_roughest_part():
    assert (FIRST + SECOND).smoothness == 4
    assert (FIRST * POWERS).smoothness == 2
    assert Scaled(SECOND).smoothness == float("inf")
    assert (FIRST + SECOND).order == 3


def test_a_kernel_may_offer_nothing_but_a_call():
    total = Overlap() + SECOND
    found = total({"1.lengthscale": TWO["lengthscale"]}, A, B)
    assert np.isclose(found, Overlap()({}, A, B) + SECOND(TWO, A, B), rtol=1e-14)
    bare = lambda hyper, system, other: Overlap()(hyper, system, other)  # noqa: E731
    assert stage(bare, "reference")({}, A) is A
    assert np.isclose(stage(bare, "compare")({}, A, B), Overlap()({}, A, B))


@pytest.mark.parametrize(
    ("hyper", "message"),
    [
        ({"lengthscale": 1.0}, r"unknown \['lengthscale'\]"),
        ({**BOTH, "2.lengthscale": 1.0}, r"unknown \['2.lengthscale'\]"),
        ({"0.lengthscale": 1.0}, r"part '1': .*missing \['exponent', 'lengthscale'\]"),
        (
            {"0.lengthscale": -1.0, "1.lengthscale": 1.0, "1.exponent": 1.0},
            "part '0': lengthscale must be one positive number",
        ),
    ],
)
def test_missing_unknown_and_unusable_hyperparameters_are_named(hyper, message):
    with pytest.raises(ValueError, match=message):
        (FIRST + POWERS).check_hyper(hyper)


def test_unusable_compositions_are_refused():
    with pytest.raises(TypeError, match="Sum takes kernels, got int at 1"):
        Sum((FIRST, 3))
    with pytest.raises(ValueError, match="at least one kernel"):
        Product(())
    with pytest.raises(ValueError, match="as many different names"):
        Sum((FIRST, SECOND), ("a", "a"))
    with pytest.raises(ValueError, match="without a dot"):
        Sum((FIRST, SECOND), ("a.b", "c"))
    with pytest.raises(ValueError, match="hyperparameter 'scale' of its own"):
        Scaled(Scaled(FIRST))
    with pytest.raises(ValueError, match="factor of a kernel must be one positive number"):
        -1.0 * FIRST
    with pytest.raises(ValueError, match=r"missing \['scale'\]"):
        Scaled(FIRST).check_hyper(ONE)
    with pytest.raises(ValueError, match="scale must be one positive number, got 0"):
        Scaled(FIRST).check_hyper({**ONE, "scale": 0.0})
    with pytest.raises(TypeError):
        FIRST + 1.0
