import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import difference, molecule

from jaxff import units
from jaxff.neighbors import neighbor_list
from jaxff.physics.d4 import (
    D4Tables,
    d4_dispersion,
    d4_tables,
    reference_polarizabilities,
)
from jaxff.physics.dispersion import BeckeJohnson
from jaxff.physics.sums import pair_sums
from jaxff.system import System, pack

HARTREE_2014 = 27.211386024367243  # eV, in the model
PBE0 = BeckeJohnson(1.0, 1.20065498, 0.40085597, 5.02928789)


@pytest.fixture(scope="module")
def weights(reference_dir):
    with np.load(reference_dir / "spookynet_weights.npz") as file:
        prefix = "d4_dispersion_energy."
        return {k.removeprefix(prefix): file[k] for k in file.files if k.startswith(prefix)}


@pytest.fixture(scope="module")
def tables(weights):
    """Those of the model, of single precision."""
    wide = {k: v.astype(float) if v.dtype == np.float32 else v for k, v in weights.items()}
    # The Gaussians of a reference system are at one place, of widths 1, 1/2 and 1/3.
    np.testing.assert_array_equal(wide["cn"], wide["cn"][..., :1].repeat(3, axis=-1))
    mask = wide["ncount_mask"] > 0
    assert (wide["ncount_weight"][mask] == np.broadcast_to([1.0, 2, 3], mask.shape)[mask]).all()
    assert (np.diff(mask.astype(int), axis=-1) <= 0).all()
    return D4Tables(
        radii=wide["rcov"],
        electronegativities=wide["en"],
        nuclear_charges=wide["zeff"],
        hardnesses=wide["gam"],
        moments=wide["sqrt_r4r2"] ** 2,
        coordination=wide["cn"][..., 0],
        gaussians=mask.sum(axis=-1),
        fallback=wide["fixgweights"],
        charges=wide["refq"],
        polarizabilities=wide["alphaiw"],
        scales=wide["ascale"],
        partners=wide["refsys"],
        partner_counts=wide["hcount"],
        partner_charges=wide["refh"],
        partner_scales=wide["sscale"],
        partner_polarizabilities=wide["secaiw"],
        frequency_weights=wide["casimir_polder_weights"],
    )


@pytest.fixture(scope="module")
def parameters(weights):
    """Damping, and the scale of charges."""
    raw = [weights[f"_{k}"][0].astype(float) for k in ("s6", "s8", "a1", "a2", "scaleq")]
    *damping, scale = map(jax.nn.softplus, raw)
    return BeckeJohnson(*damping), scale


@jax.jit
def evaluate(charges, system, neighbors, tables, parameters, cutoff):
    """``cutoff`` is static, as an empty array of that many entries."""
    pairs = None if neighbors is None else neighbors.pairs[0]
    cutoff = None if cutoff is None else float(cutoff.shape[0])
    damping, scale = parameters
    found = d4_dispersion(
        charges, system, pairs, tables, damping,
        charge_scale=scale, cutoff=cutoff, hartree=HARTREE_2014,
    )  # fmt: skip
    return found, reference_polarizabilities(tables)


def c6_of(polarizabilities, tables):
    """Casimir-Polder integrals between all atoms, in atomic units."""
    weighted = np.asarray(polarizabilities) * tables.frequency_weights
    return 3 / np.pi * weighted @ np.asarray(polarizabilities).T


@pytest.mark.golden
@pytest.mark.parametrize("periodic", [False, True])
def test_spookynet(reference_dir, tables, parameters, periodic):
    with np.load(reference_dir / "reference_spookynet.npz") as file:
        data = dict(file)
    names = [n for n in data["names"] if ("pbc" in n) == periodic]
    assert names
    if periodic:
        (name,) = names
        system = System(data[f"{name}/R"], data[f"{name}/Z"], data[f"{name}/f64c6/cell"])
        neighbors, cutoff = neighbor_list(8.0, skin=0.3).allocate(system), np.empty((8, 0))
    else:
        system = pack([System(data[f"{n}/R"], data[f"{n}/Z"]) for n in names])
        neighbors, cutoff = None, None

    def stored(quantity):
        return np.concatenate([data[f"{n}/f64c6/{quantity}"] for n in names])

    found, references = evaluate(stored("charges"), system, neighbors, tables, parameters, cutoff)
    np.testing.assert_allclose(found.energies, stored("e_d4"), rtol=0, atol=1e-9)
    c6 = np.diag(c6_of(found.polarizabilities, tables)) * units.HARTREE * units.BOHR**6
    np.testing.assert_allclose(c6, stored("c6"), rtol=2e-8)  # constants of nature
    static = np.sum(found.weights * references[system.numbers, :, 0], axis=1)
    np.testing.assert_allclose(static * units.BOHR**3, stored("pol"), rtol=1e-6)  # float32 tables


@pytest.mark.golden
@pytest.mark.parametrize("periodic", [False, True])
def test_coefficients_of_dftd4(reference_dir, periodic):
    """With its charges and the tables of the package."""
    tables = d4_tables()
    with np.load(reference_dir / "dispersion_zbl.npz") as file:
        data = dict(file)
    names = [n for n in data["names"] if ("pbc" in n) == periodic]
    assert names
    cells = [data[f"{n}/cell"] if periodic else None for n in names]
    systems = [System(data[f"{n}/R"], data[f"{n}/Z"], c) for n, c in zip(names, cells, strict=True)]
    system = pack(systems)
    # Bonds are not counted beyond a few Å.
    neighbors = neighbor_list(8.0).allocate(system) if periodic else None

    def stored(quantity):
        return [data[f"{n}/d4/properties/{quantity}"] for n in names]

    charges = np.concatenate(stored("partial_charges"))
    found, _ = evaluate(charges, system, neighbors, tables, (PBE0, 1.0), None)
    count = np.concatenate(stored("coordination_numbers"))
    np.testing.assert_allclose(found.coordination, count, rtol=1e-7)
    polarizabilities = np.concatenate(stored("polarizabilities"))
    np.testing.assert_allclose(found.polarizabilities[:, 0], polarizabilities, rtol=1e-7)
    c6 = c6_of(found.polarizabilities, tables)
    start = 0
    for expected in stored("c6_coefficients"):
        own = slice(start, start + len(expected))
        np.testing.assert_allclose(c6[own, own], expected, rtol=1e-7)
        start = own.stop


def three_body(positions, c6, moments):
    """Axilrod-Teller-Muto energy with the damping of D4, atomic units."""
    lengths = np.linalg.norm(positions[:, None] - positions, axis=-1)
    radii = PBE0.a1 * np.sqrt(3.0 * np.outer(moments, moments)) + PBE0.a2
    total = 0.0
    for i, j, k in itertools.combinations(range(len(positions)), 3):
        ends = ([i, j, k], [j, k, i])
        r, square = lengths[ends].prod(), lengths[ends] ** 2
        angles = 1.0 + 3.0 / 8.0 * np.prod(square.sum() - 2.0 * square) / r**2
        damping = 1.0 + 6.0 * (radii[ends].prod() / r) ** (16 / 3)
        total += np.sqrt(c6[ends].prod()) * angles / r**3 / damping
    return total


@pytest.mark.golden
def test_energies_of_dftd4(reference_dir):
    """Of three bodies too, which are not part of the library and have no charges."""
    tables = d4_tables()
    with np.load(reference_dir / "dispersion_zbl.npz") as file:
        data = dict(file)
    names = [n for n in data["names"] if "pbc" not in n]
    assert len(names) >= 3
    system = pack([System(data[f"{n}/R"], data[f"{n}/Z"]) for n in names])
    charges = np.concatenate([data[f"{n}/d4/properties/partial_charges"] for n in names])
    charged, _ = evaluate(charges, system, None, tables, (PBE0, 1.0), None)
    neutral, _ = evaluate(0.0 * charges, system, None, tables, (PBE0, 1.0), None)
    c6 = c6_of(neutral.polarizabilities, tables)
    for index, name in enumerate(names):
        own = np.flatnonzero(system.structure == index)
        moments = tables.moments[data[f"{name}/Z"]]
        more = three_body(data[f"{name}/R"] / units.BOHR, c6[np.ix_(own, own)], moments)
        expected = data[f"{name}/d4/pbe0/energy"] / units.HARTREE
        assert abs(more) > 1e-8
        found = charged.energies[own].sum() / HARTREE_2014 + more
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)


def test_forces_with_charges_that_move():
    tables, parameters = d4_tables(), PBE0
    systems = [molecule(0, 4), molecule(1, 3)]
    system = pack(systems)
    padded = System(
        np.concatenate([system.positions, np.zeros((1, 3))]), [*system.numbers.tolist(), 0],
        structure=[*system.structure.tolist(), 1], structure_mask=[True, True],
    )  # fmt: skip

    @jax.jit
    def energy(positions):
        moved = padded.replace(positions=positions)
        own = jnp.where(padded.numbers == 1, 0.4, -0.3)
        near = pair_sums(lambda r, a, b: (a + b) * jnp.exp(-r), moved, None, own)
        return jnp.sum(d4_dispersion(own + near, moved, None, tables, parameters).energies)

    found = jax.jit(jax.grad(energy))(padded.positions)
    expected = difference(energy, padded.positions)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)
    assert np.abs(found[:7]).max() > 1e-3
    np.testing.assert_array_equal(found[7], 0.0)


def test_unknown_elements_give_nan():
    tables, parameters = d4_tables(), PBE0
    system = System(np.eye(3)[:2] * 3, [1, 92])
    found, _ = evaluate(np.zeros(2), system, None, tables, (parameters, 1.0), None)
    assert np.isnan(found.energies[1])
