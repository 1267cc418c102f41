import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import molecule, rotations

from jaxff import System, bind, energy_and_forces, io, neighbor_list, pack, scale_shift
from jaxff.networks import schnet, so3krates, tabulated
from jaxff.networks.euclidean import Layout

KEY = jax.random.key(0)
TINY = {"features": 4, "layers": 1, "heads": 2, "radial_functions": 4, "dtype": "float64"}


def test_harmonics_have_their_parity_and_invariants_turn_with_nothing():
    layout = Layout((1, 2, 5))
    arrows = np.random.default_rng(0).normal(size=(4, 3))
    arrows /= np.linalg.norm(arrows, axis=1, keepdims=True)
    there, back = layout.harmonics(jnp.asarray(arrows)), layout.harmonics(-jnp.asarray(arrows))
    assert there.shape == (4, layout.size) == (4, 3 + 5 + 11)
    np.testing.assert_allclose(back, there * layout.parity, atol=1e-14)
    np.testing.assert_allclose(
        there[:, :3], np.sqrt(0.75 / np.pi) * arrows[:, [1, 2, 0]], atol=1e-14
    )
    # of unit vectors: the addition theorem; of their sums: as before they were turned
    expected = [np.sqrt(2 * n + 1) / (4 * np.pi) for n in layout.degrees]
    np.testing.assert_allclose(layout.invariants(there), np.tile(expected, (4, 1)), rtol=1e-12)
    turned = layout.harmonics(jnp.asarray(arrows @ rotations(1)[0].T))
    np.testing.assert_allclose(
        layout.invariants(turned.sum(axis=0)), layout.invariants(there.sum(axis=0)), rtol=1e-10
    )


def test_angles_are_seen_by_directions_only():
    """Without them the energy depends on the distances of neighbours: the ablation."""

    def bent(angle):
        end = [1.1 * np.cos(angle), 1.1 * np.sin(angle), 0.0]
        return System(np.array([[1.1, 0.0, 0.0], [0.0, 0.0, 0.0], end]), [1, 8, 1])

    lists = neighbor_list(1.3)
    systems = pack([bent(1.5), bent(2.5)])
    found = lists.allocate(systems)
    difference = {}
    for degrees in ((0,), (1, 2)):
        potential = so3krates(1.3, degrees=degrees, **TINY)
        params = jax.jit(potential.init)(KEY, systems, found)
        energies = jax.jit(lambda e: e(systems, found))(bind(potential, params))
        difference[degrees] = abs(energies[0] - energies[1])
    assert difference[0,] < 1e-12
    assert difference[1, 2] > 1e-6


def test_totals_charges_and_hirshfeld_ratios():
    """Of a neutral molecule, its ions, and a structure of padding."""
    asked = ("dipole", "euclidean_variables", "features", "hirshfeld_ratios", "partial_charges")
    options = {"charge": True, "spin": True, "element_energies": True, "outputs": asked}
    potential = so3krates(3.0, degrees=(1, 3), initial_norm=4.0, **options, **TINY)
    assert potential.uses == {"charge", "spin"}
    system = pack([molecule(0, 4, charge=q, spin=abs(q)) for q in (0.0, 1.0, -1.0, 0.0)])
    system = system.replace(numbers=system.numbers.at[12:].set(0))
    found = neighbor_list(3.0).allocate(system)

    def evaluate(params, positions):
        outputs = bind(potential, params).outputs(system.replace(positions=positions), found)
        return jnp.sum(outputs["energy"]), outputs

    params = jax.jit(potential.init)(KEY, system, found)
    slopes, outputs = jax.jit(jax.grad(evaluate, argnums=(0, 1), has_aux=True))(
        params, system.positions
    )
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((slopes, dict(outputs))))
    charges = outputs["partial_charges"].reshape(4, 4)
    np.testing.assert_allclose(charges.sum(axis=1), [0.0, 1.0, -1.0, 0.0], atol=1e-12)
    assert np.ptp(outputs["energy"][:3]) > 1e-4
    assert outputs["energy"][3] == 0.0
    assert outputs["features"].shape == (16, 4)
    assert outputs["euclidean_variables"].shape == (16, 10)
    ratios = outputs["hirshfeld_ratios"].reshape(4, 4)
    assert (ratios[:3] > 0).all()
    np.testing.assert_array_equal(ratios[3], 0.0)


def chain(angle, carbons=6):
    """Cumulene, one end turned about the axis."""
    middle = [[1.3 * k, 0.0, 0.0] for k in range(carbons)]
    ends = [
        [x, 0.95 * np.cos(turn) * side, 0.95 * np.sin(turn) * side]
        for x, turn in ((-0.55, 0.0), (1.3 * (carbons - 1) + 0.55, angle))
        for side in (1.0, -1.0)
    ]
    return System(np.asarray(middle + ends), [6] * carbons + [1] * 4)


def test_ends_of_a_chain_feel_how_the_other_is_turned():
    """Beyond the reach of the local layers, 2 x 2 Å, with nonlocal attention only."""
    systems = pack([chain(0.3), chain(1.2)])
    change = {}
    for far in (False, True):
        potential = so3krates(2.0, degrees=(1, 2), nonlocal_attention=far, **(TINY | {"layers": 2}))
        assert potential.cutoffs == (() if far else (2.0,))
        found = neighbor_list(potential.cutoffs).allocate(systems)
        params = jax.jit(potential.init)(KEY, systems, found)
        energies = jax.jit(lambda e, n: e(systems, n))(bind(potential, params), found)
        change[far] = abs(energies[0] - energies[1])
    assert change[False] < 1e-12
    assert change[True] > 1e-8


def test_tabulated_filters_and_their_error(tmp_path):
    potential = so3krates(3.0, degrees=(1, 2), **(TINY | {"layers": 2}))
    system = molecule(0, 5)
    found = neighbor_list(3.0, skin=0.3).allocate(system)
    params = jax.jit(potential.init)(KEY, system, found)
    evaluate = jax.jit(lambda e: energy_and_forces(e)(system, found))
    energy, forces = evaluate(bind(potential, params))
    errors = []
    for intervals in (32, 64):
        energy_fn = bind(*tabulated(potential, params, intervals, tolerance=1e-12))
        new_energy, new_forces = evaluate(energy_fn)
        np.testing.assert_allclose(new_forces, forces, atol=1e-4)
        errors.append(abs(new_energy - energy))
    assert 1e-12 < errors[1] < errors[0] / 6 < 1e-5
    io.save(tmp_path / "fast.safetensors", energy_fn.potential, energy_fn.params)
    again = bind(*io.load(tmp_path / "fast.safetensors"))
    assert again.potential.spec == energy_fn.potential.spec
    with pytest.raises(ValueError, match="without tables"):
        tabulated(energy_fn.potential, energy_fn.params)
    # Reference energies, as trainings add them, stay what they are.
    shifted = evaluate(bind(*tabulated(scale_shift(potential, 2.0, -3.0), params, 64)))
    np.testing.assert_allclose(shifted[0], 2.0 * energy - 3.0 * 5, atol=1e-4)
    np.testing.assert_allclose(shifted[1], 2.0 * forces, atol=2e-4)
    for other in (schnet(), scale_shift(schnet(), 1.0, 0.0)):
        with pytest.raises(ValueError, match="can be tabulated, got 'schnet'"):
            tabulated(other, {})
    with pytest.raises(ValueError, match="nonlocal_attention filters are needed beyond"):
        tabulated(so3krates(3.0, degrees=(1, 2), nonlocal_attention=True, **TINY), params)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cutoff": None, "cutoff_function": None, "radial_centers": np.ones(4),
          "radial_widths": np.ones(4)}, "needs a cutoff"),
        ({"layers": 0}, "layers must be a whole number from 1 on, got 0"),
        ({"features": -4}, "features must be a whole number"),
        ({"attention_norm": 0.0}, "attention_norm must be a positive number"),
        ({"radial_table": (0, 0)}, "radial_table must be two positive numbers"),
        ({"degrees": ()}, "degrees must be different numbers"),
        ({"degrees": (1, 1)}, "degrees must be different numbers"),
        ({"features": 5}, "multiple of the number of heads, got 5 and 2"),
        ({"degrees": (1, 2, 3)}, "multiple of the number of degrees, got 4 and 3"),
        ({"layer_norm": "batch"}, "layer_norm must be one of"),
        ({"residual_mlps": "added"}, "must be two names"),
        ({"residual_mlps": ("added", "doubled")}, "residual_mlps must be one of"),
        ({"radial_decay": 0.5}, "of the bernstein basis"),
        ({"outputs": ("stress",)}, "outputs must be one of"),
    ],
)  # fmt: skip
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        so3krates(**({"degrees": (1, 2)} | TINY | options))
