"""Terms with charges and other atomic inputs: stored energies of SO3LR and SpookyNet."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import crystal, difference, molecule

from jaxff import physics
from jaxff.neighbors import neighbor_list
from jaxff.physics.sums import pair_sums
from jaxff.radial import cutoffs
from jaxff.system import System, pack, strain, sum_atoms

CODATA_2014 = 14.399645351950548  # eV Å, in both models
TERMS = ("zbl", "ele", "disp")


def read(reference_dir, name):
    with np.load(reference_dir / f"{name}.npz") as file:
        return dict(file)


def screening(weights, prefix, inverse_length, exponent):
    raw = {
        "amplitudes": jnp.concatenate([weights[f"{prefix}c{k}"] for k in range(1, 5)]),
        "decays": jnp.concatenate([weights[f"{prefix}a{k}"] for k in range(1, 5)]),
        "exponent": weights[prefix + exponent][0],
        "inverse_length": weights[prefix + inverse_length][0],
    }
    return physics.screening_of(jax.tree.map(lambda x: x.astype(float), raw))


@jax.jit
def so3lr_terms(screening, charges, ratios, system, neighbors, cutoff):
    """Per atom and term; ``cutoff`` is static, as an empty array of that many entries."""
    cutoff = float(cutoff.shape[0])
    pairs = None if neighbors is None else neighbors.within(cutoff)

    def envelope(r):
        return cutoffs.smoothstep(r, 4.5) * cutoffs.smooth_switching(r, 0.0, 1.5)

    damped = functools.partial(physics.erf_damped, width=4.0, cutoff=cutoff)
    repulsion = physics.repulsion_energies(screening, system, pairs, envelope, constant=CODATA_2014)
    electrostatics = physics.coulomb_energies(charges, system, pairs, damped, constant=CODATA_2014)
    dispersion = physics.dispersion_energies(ratios, system, pairs, damping=1.2, cutoff=cutoff)
    return dict(zip(TERMS, (repulsion, electrostatics, dispersion), strict=True))


@pytest.mark.golden
@pytest.mark.parametrize("cutoff", [1000, 12])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_so3lr(reference_dir, cutoff, dtype):
    """All molecules in one pack without a list, or one large molecule with a list and its skin."""
    data, weights = (read(reference_dir, n) for n in ("reference_so3lr", "so3lr_weights"))
    names = [n for n in data["names"] if data[f"{n}/lr_cutoff"] == cutoff]
    assert names
    precision = "f64" if dtype is np.float64 else "f32"
    systems = [System(data[f"{n}/R"].astype(dtype), data[f"{n}/Z"]) for n in names]
    system = pack(systems) if len(systems) > 1 else systems[0]
    neighbors = neighbor_list(12.0, skin=0.5).allocate(system) if cutoff == 12 else None

    def stored(name, dtype=dtype):
        return np.concatenate([data[f"{n}/{precision}/{name}"] for n in names]).astype(dtype)

    found = so3lr_terms(
        screening(weights, "params/observables_0/zbl_repulsion/", "d", "p"),
        stored("charges"), stored("hirshfeld"), system, neighbors, np.empty((cutoff, 0)),
    )  # fmt: skip
    for term in TERMS:
        assert found[term].dtype == dtype
        expected = stored(f"e_{term}", np.float64)
        # The constants of nature of dispersion are newer here: 3e-10 eV.
        tolerance = 1e-9 if dtype is np.float64 else 2e-6
        np.testing.assert_allclose(found[term], expected, rtol=0, atol=tolerance)


@jax.jit
def spookynet_terms(screening, charges, system, neighbors, cutoff):
    cutoff = None if cutoff is None else float(cutoff.shape[0])
    pairs = None if neighbors is None else neighbors.within(neighbors.cutoffs[0])
    reach = 5.291772105638412
    softened = functools.partial(physics.softened, reach=reach, cutoff=cutoff)
    return {
        "zbl": physics.repulsion_energies(
            screening, system, pairs, lambda r: cutoffs.bump(r, reach), constant=CODATA_2014
        ),
        "ele": physics.coulomb_energies(charges, system, pairs, softened, constant=CODATA_2014),
    }


@pytest.mark.golden
@pytest.mark.parametrize("periodic", [False, True])
def test_spookynet(reference_dir, periodic):
    data, weights = (read(reference_dir, n) for n in ("reference_spookynet", "spookynet_weights"))
    names = [n for n in data["names"] if ("pbc" in n) == periodic]
    assert names
    if periodic:
        (name,) = names
        assert data[f"{name}/lr_cutoff"] == 8
        system = System(data[f"{name}/R"], data[f"{name}/Z"], data[f"{name}/f64c6/cell"])
        neighbors, cutoff = neighbor_list(8.0).allocate(system), np.empty((8, 0))
    else:
        assert all(data[f"{n}/lr_cutoff"] == -1 for n in names)
        system = pack([System(data[f"{n}/R"], data[f"{n}/Z"]) for n in names])
        neighbors, cutoff = None, None

    def stored(name):
        return np.concatenate([data[f"{n}/f64c6/{name}"] for n in names])

    found = spookynet_terms(
        screening(weights, "zbl_repulsion_energy._", "adiv", "apow"),
        stored("charges"), system, neighbors, cutoff,
    )  # fmt: skip
    for term, value in found.items():
        np.testing.assert_allclose(value, stored(f"e_{term}"), rtol=0, atol=1e-9)


@pytest.mark.golden
def test_universal_screening(reference_dir):
    data = read(reference_dir, "dispersion_zbl")
    names = [n for n in data["names"] if f"{n}/zbl/energy" in data]
    system = pack([System(data[f"{n}/R"], data[f"{n}/Z"]) for n in names])
    # Coefficients rounded to four digits, and a Bohr radius of CODATA 2022.
    rounded = physics.Screening(
        (0.1818, 0.5099, 0.2802, 0.02817), (3.2, 0.9423, 0.4029, 0.2016), 0.23,
        1 / (0.8854 * 0.529177210544),
    )  # fmt: skip
    found = jax.jit(lambda s: physics.repulsion_energies(rounded, s, None, constant=CODATA_2014))(
        system
    )
    expected = np.concatenate([data[f"{n}/zbl/e_atom"] for n in names])
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def atomic_charges(system, pairs):
    """Charges and volumes that depend on the positions, as those of a network do."""
    own = jnp.where(system.numbers == 1, 0.4, -0.3) * (system.numbers > 0)
    near = pair_sums(
        lambda r, a, b: (a + b) * jnp.exp(-r) * cutoffs.bump(r, 3.5), system, pairs, own
    )
    return own + near, 0.9 + jnp.tanh(near) ** 2


@jax.jit
def toy_energy(system, neighbors):
    pairs = None if neighbors is None else neighbors.within(3.5)
    charges, ratios = atomic_charges(system, pairs)
    damped = functools.partial(physics.erf_damped, width=1.5, cutoff=3.5)
    energies = physics.coulomb_energies(charges, system, pairs, damped)
    energies += physics.dispersion_energies(ratios, system, pairs, damping=1.2, cutoff=3.5)
    return jnp.sum(sum_atoms(system, energies))


@jax.jit
def gradient(system, neighbors):
    return jax.grad(lambda r: toy_energy(system.replace(positions=r), neighbors))(system.positions)


def padded(system, atoms=1):
    """The same atoms and some of number 0, far from harmless in one place."""
    return System(
        np.concatenate([system.positions, np.zeros((atoms, 3))]),
        np.concatenate([system.numbers, np.zeros(atoms, int)]),
    )


def test_forces_with_charges_that_move():
    systems = [molecule(0, 4), molecule(1, 3)]
    both = pack([*systems, padded(systems[0], 2)])
    found = gradient(both, None)
    expected = difference(lambda r: toy_energy(both.replace(positions=r), None), both.positions)
    np.testing.assert_allclose(found, expected, atol=1e-8)
    np.testing.assert_array_equal(found[-2:], 0.0)
    np.testing.assert_allclose(found[7:11], found[:4], atol=1e-13)
    # The same by a list of pairs, which has padding of its own.
    listed = gradient(both, neighbor_list(3.5, skin=1.0).allocate(both))
    np.testing.assert_allclose(listed, found, atol=1e-12)


def test_stress_with_charges_that_move():
    system = crystal()
    neighbors = neighbor_list(3.5).allocate(system)
    found = jax.jit(jax.grad(lambda e: toy_energy(strain(system, e), neighbors)))(jnp.zeros((3, 3)))
    expected = difference(lambda e: toy_energy(strain(system, e), neighbors), np.zeros((3, 3)))
    np.testing.assert_allclose(found, expected, atol=1e-8)


def test_all_pairs_of_cells_and_stacks_are_refused():
    with pytest.raises(ValueError, match="only molecules can be computed"):
        toy_energy(crystal(), None)
    with pytest.raises(ValueError, match="stack of shape"):
        toy_energy(jax.tree.map(lambda x: x[None], molecule()), None)
