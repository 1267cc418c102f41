import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import crystal, molecule

from jaxff.descriptors import (
    check,
    coulomb_eigenvalues,
    distance_powers,
    internal,
    inverse_distances,
    soap,
)
from jaxff.neighbors import neighbor_list

MOLECULE = molecule(1)


def squares(system, neighbors=None):
    vectors = system.positions[1:] - system.positions[:-1]
    return jnp.sum(vectors**2, axis=-1)


@pytest.mark.parametrize(
    ("descriptor", "hyper"),
    [
        (inverse_distances, None),
        (distance_powers, {"power": jnp.asarray(-2.0)}),
        (coulomb_eigenvalues(), None),
        (internal([(0, 1), (1, 2)], [(0, 1, 2)], [(0, 1, 2, 3)]), None),
        (squares, None),
    ],
)
def test_good_ones_pass_in_silence(descriptor, hyper):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(descriptor, MOLECULE, hyper)


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32])
def test_atom_centred_ones_pass_with_their_lists(dtype):
    system = crystal()
    system = system.replace(
        positions=system.positions.astype(dtype), cell=system.cell.astype(dtype)
    )
    descriptor = soap([6, 8], 2.5, radial_functions=2, max_degree=1, width=0.5)
    check(descriptor, system, neighbors=neighbor_list(descriptor.cutoffs).allocate(system))


def test_dependence_on_place_or_orientation_is_told():
    def differences(system, neighbors=None):
        return jnp.ravel(system.positions[1:] - system.positions[:-1])

    with pytest.warns(UserWarning, match="not invariant to rotation: features change by"):
        check(differences, MOLECULE)

    def radii(system, neighbors=None):
        return jnp.sum(system.positions**2, axis=-1)

    with pytest.warns(UserWarning, match="not invariant to translation"):
        check(radii, MOLECULE)


@pytest.mark.parametrize(
    ("descriptor", "error", "message"),
    [
        (lambda s, n=None: squares(s)[0], ValueError, r"got \(\)"),
        (lambda s, n=None: jnp.ones((3, 2)) * s.positions[0, 0], ValueError, r"\(5, features\)"),
        (lambda s, n=None: squares(s)[:0], ValueError, r"got \(0,\)"),
        (lambda s, n=None: jnp.round(squares(s)), ValueError, "no feature changes when the atoms"),
        (lambda s, n=None: (squares(s),), TypeError, "one array of features, got tuple"),
        (lambda s, n=None: s.numbers, TypeError, "must be floating point, got int"),
        (lambda s, n=None: jnp.log(-squares(s)), ValueError, "value of feature 0 is not finite"),
        (
            lambda s, n=None: jnp.sqrt(squares(s) - jax.lax.stop_gradient(squares(s))),
            ValueError,
            "derivative of feature 0 is not finite",
        ),
        (
            lambda s, n=None: squares(s) * jax.lax.stop_gradient(squares(s)),
            ValueError,
            "not differentiable as computed",
        ),
        (
            lambda s, n=None: jnp.round(squares(s), 8) * 1.0,
            ValueError,
            "its derivative says 0",
        ),
        (
            lambda s, n=None: jnp.asarray(np.sum(np.asarray(s.positions) ** 2, axis=-1)),
            TypeError,
            "write it with jax.numpy",
        ),
        (
            lambda s, n=None: squares(s) if s.positions[0, 0] > 0 else -squares(s),
            TypeError,
            "without branches on values",
        ),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused(descriptor, error, message):
    with pytest.raises(error, match=message):
        check(descriptor, MOLECULE)
