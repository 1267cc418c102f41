import jax.numpy as jnp
import numpy as np

from jaxff import units
from jaxff.physics import dispersion_energies
from jaxff.physics.dispersion import AtomsInMolecules, drude_dispersion
from jaxff.physics.free_atoms import C6, POLARIZABILITIES
from jaxff.system import System


def test_tables():
    assert C6.shape == POLARIZABILITIES.shape == (87,)
    assert (C6[1:] > 1).all()
    assert (POLARIZABILITIES[1:] > 1).all()
    # C6 = 3/4 I α² (London) with mean excitation energies I between 1 eV and 1.3 Hartree.
    energies = 4 / 3 * C6[1:] / POLARIZABILITIES[1:] ** 2
    assert energies.min() > 1 / units.HARTREE
    assert energies.max() < 1.3


def test_leading_terms_at_long_range():
    """C6 of two argon atoms, and C8 and C10 of an oscillator from their ratios."""
    argon = AtomsInMolecules(jnp.asarray(11.1), jnp.asarray(64.3))
    r = np.array([40.0, 80.0, 160.0])
    energies = np.asarray(drude_dispersion(jnp.asarray(r), argon, argon, 0.5))
    np.testing.assert_allclose(-energies * r**6, 64.3, rtol=0.05)
    matrix = np.stack([r**-6.0, r**-8.0, r**-10.0], axis=1)
    c6, c8, c10 = np.linalg.solve(matrix, -energies)
    np.testing.assert_allclose(c6, 64.3, rtol=1e-6)
    # 49/40 C8²/C6 is the C10 of oscillators.
    np.testing.assert_allclose(c10, 49 / 40 * c8**2 / c6, rtol=0.02)
    assert 1200 < c8 < 2200  # of argon: 1621 (Porsev & Derevianko 2006)


def test_mixing_is_that_of_oscillators():
    """Unlike atoms by the Slater-Kirkwood rule for one frequency each."""
    a, b = (AtomsInMolecules(*map(jnp.asarray, x)) for x in ((4.5, 6.5), (12.0, 46.6)))
    frequency = [4 / 3 * x.c6 / x.polarizabilities**2 for x in (a, b)]
    c6 = 1.5 * 4.5 * 12.0 * frequency[0] * frequency[1] / (frequency[0] + frequency[1])
    r = jnp.asarray(3000.0)
    for pair in ((a, b), (b, a)):
        np.testing.assert_allclose(-drude_dispersion(r, *pair, 1.2) * r**6, c6, rtol=1e-4)


def test_unknown_elements_give_nan():
    system = System(np.eye(3)[:2] * 3, [88, 1])
    assert np.isnan(dispersion_energies(jnp.ones(2), system, None, damping=1.2)).all()
