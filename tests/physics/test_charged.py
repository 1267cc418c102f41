"""Potentials of charges that another part of a sum gives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import molecule, morse

from jaxff import System, add, bind, io, neighbor_list, networks, physics, units

SALT = {"charges": [1.0, -1.0]}


def rock_salt():
    cell = 5.64 * np.eye(3)
    half = np.array([[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0]]) * 2.82
    return System(np.vstack([half, half + np.array([2.82, 0, 0])]), [11] * 4 + [17] * 4, cell)


def salt(part):
    """Ions with an interaction, and its parameters."""
    ions = physics.fixed_charges(["Na", "Cl"])
    return add(ions, part), (ions.init(**SALT), part.init())


def test_two_ions():
    potential, params = salt(physics.electrostatics(reach=4.0))
    system = System([[0.0, 0, 0], [0, 0, 3.5]], [11, 17])
    outputs = bind(potential, params).outputs(system)
    np.testing.assert_allclose(outputs["energy"], -units.COULOMB / 3.5, rtol=1e-14)
    np.testing.assert_array_equal(outputs["partial_charges"], [1.0, -1.0])
    np.testing.assert_array_equal(outputs["electrostatic_energy"], outputs["energy"])
    gaussian = bind(*salt(physics.electrostatics(width=1.5)))(system)
    expected = -units.COULOMB * jax.scipy.special.erf(3.5 / 1.5) / 3.5
    np.testing.assert_allclose(gaussian, expected, rtol=1e-14)
    assert np.isnan(bind(potential, params)(system.replace(numbers=np.array([11, 9]))))


def test_rock_salt_by_an_ewald_sum(tmp_path):
    """Madelung constant: 1.7475645946 (Borwein et al., J. Math. Phys. 26, 2999 (1985))."""
    system = rock_salt()
    plan = physics.ewald_plan(system.cell, cutoff=6.0, accuracy=1e-12)
    potential, params = salt(physics.electrostatics(reach=3.0, cutoff=6.0, ewald=plan))
    io.save(tmp_path / "salt.safetensors", potential, params)
    energy_fn = bind(*io.load(tmp_path / "salt.safetensors"))
    found = energy_fn(system, neighbor_list(energy_fn.cutoffs).allocate(system))
    madelung = -float(found) / 4 * 2.82 / units.COULOMB
    np.testing.assert_allclose(madelung, 1.7475645946331822, rtol=1e-10)
    # Wide charges shield each other; with waves alone there is no list.
    plan = physics.ewald_plan(system.cell, width=1.5)
    wide = bind(*salt(physics.electrostatics(width=1.5, ewald=plan)))
    assert wide.cutoffs == ()
    assert 0 > wide(system) > found


def test_a_network_with_terms_is_the_sum_of_its_parts():
    """Its charges depend on the positions, and forces flow through them."""
    system = molecule(charge=1.0, spin=1.0)
    options = {"features": 8, "modules": 1, "cutoff": 3.0, "dtype": "float64", "repulsion": False}
    whole = networks.spookynet(**options)
    bare = networks.spookynet(**options, electrostatics=False, dispersion=False)
    near = neighbor_list(whole.cutoffs).allocate(system)
    params = jax.jit(whole.init)(jax.random.key(1), system, near)
    # Charges are zero at first.
    params = jax.tree.map(lambda x: x + 0.05 * jnp.cos(jnp.arange(x.size).reshape(x.shape)), params)
    damping = {name: jax.nn.softplus(x) for name, x in params["dispersion"].items()}
    assert damping.pop("charge_scale") is not None
    damping["s6"] = 1.0
    parts = add(physics.electrostatics(reach=3.0), bare, physics.d4())
    given = ({}, {"network": params["network"]}, physics.d4().init(**damping))

    def energy(potential, params):
        return lambda r: bind(potential, params)(system.replace(positions=r), near)

    def force(potential, params):
        return jax.jit(jax.value_and_grad(energy(potential, params)))(system.positions)

    # Constants of nature differ in the ninth digit, and the scale of the charges is one in d4.
    scaled = params | {"dispersion": params["dispersion"] | {"charge_scale": np.log(np.expm1(1.0))}}
    found = force(parts, given)
    for ours, theirs in zip(found, force(whole, scaled), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-7, atol=1e-7)
    without = jax.jit(energy(bare, given[1]))(system.positions)
    assert abs(without - found[0]) > 1e-3


def test_charges_must_come_from_somewhere():
    system, part = molecule(), physics.electrostatics(reach=3.0)
    with pytest.raises(ValueError, match=r"reads partial_charges of another one: use add\("):
        bind(part, {})(system)
    with pytest.raises(ValueError, match=r"reads partial_charges of another one: use add\("):
        bind(add(part, physics.d4()), ({}, {}))(system)
    with pytest.raises(ValueError, match="which no other part gives; the others give energy"):
        bind(add(morse(), part), (morse().init(None, system), {}))(system)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: physics.electrostatics(), "either the reach"),
        (lambda: physics.electrostatics(reach=1.0, width=1.0), "either the reach"),
        (lambda: physics.electrostatics(width=-1.0), "width must be a positive"),
        (lambda: physics.electrostatics(reach=5.0, cutoff=4.0), "at least the reach"),
        (lambda: physics.electrostatics(reach=5.0, ewald=PLAN), "give that of the plan"),
        (lambda: physics.electrostatics(width=1.5, cutoff=9.0, ewald=PLAN), "give no cutoff"),
        (lambda: physics.electrostatics(width=2.0, ewald=PLAN), r"width 1\.5 Å"),
        (lambda: physics.d4(0.0), "cutoff must be a positive"),
        (lambda: physics.fixed_charges(["H"]).init(charges=[1.0, 2.0]), "each of 1 elements"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


PLAN = physics.ewald_plan(9.0 * np.eye(3), width=1.5)
