import json

import jax.numpy as jnp
import numpy as np
import pytest
from descriptor_checks import evaluate, golden_systems, pull_back

from jaxff.descriptors import bessel_power_spectrum, radial_integrals, soap
from jaxff.descriptors.harmonics import solid_harmonics
from jaxff.system import System


def test_solid_harmonics_are_orthonormal_and_homogeneous():
    nodes, weights = np.polynomial.legendre.leggauss(8)
    angles = 2 * np.pi * np.arange(12) / 12
    z, phi = np.repeat(nodes, 12), np.tile(angles, 8)
    w = np.repeat(weights, 12) * 2 * np.pi / 12
    s = np.sqrt(1 - z**2)
    points = jnp.asarray(np.stack([s * np.cos(phi), s * np.sin(phi), z], axis=1))
    harmonics = solid_harmonics(points, 4)
    found = np.concatenate(harmonics, axis=1)
    np.testing.assert_allclose((found.T * w) @ found, np.eye(25), atol=1e-13)
    for degree, scaled in enumerate(solid_harmonics(2.0 * points, 4)):
        np.testing.assert_allclose(scaled, 2.0**degree * harmonics[degree], rtol=1e-12)
    np.testing.assert_allclose(harmonics[1], np.sqrt(0.75 / np.pi) * points[:, [1, 2, 0]])


@pytest.mark.parametrize("basis", radial_integrals.BASES)
def test_the_expansion_is_that_of_the_density(basis):
    """Coefficients of one neighbour against a quadrature in three dimensions."""
    descriptor = soap(
        ["H", "O"], 3.0, radial_functions=3, max_degree=2, width=0.5, basis=basis,
        transition="switching",
    )  # fmt: skip
    place = np.array([0.9, -0.7, 0.8])
    coefficients = descriptor.expansion(System([[0.0, 0, 0], place], [8, 1]))
    end = 3.0 if basis == "polynomial" else 12.0
    nodes, weights = np.polynomial.legendre.leggauss(80)
    r, wr = 0.5 * end * (nodes + 1), 0.5 * end * weights
    z, wz = np.polynomial.legendre.leggauss(24)
    phi = 2 * np.pi * np.arange(32) / 32
    r, z, phi = (a.ravel() for a in np.meshgrid(r, z, phi, indexing="ij"))
    w = (wr[:, None, None] * wz[:, None] * np.full(32, 2 * np.pi / 32)).ravel() * r**2
    s = np.sqrt(1 - z**2)
    directions = np.stack([s * np.cos(phi), s * np.sin(phi), z], axis=1)
    square = np.sum((r[:, None] * directions - place) ** 2, axis=1)
    density = np.exp(-square / (2 * 0.5**2)) * ((np.pi * 0.25) ** -0.75 if basis == "gto" else 1.0)
    functions = radial_integrals._orthonormal(basis, 3, 2, 3.0, r)
    for degree, angular in enumerate(solid_harmonics(jnp.asarray(directions), 2)):
        expected = np.einsum("p,np,pm->nm", w * density, functions[degree], angular)
        np.testing.assert_allclose(coefficients[degree][0, 0], expected, atol=1e-9)


def test_a_lone_atom_has_its_own_density_alone():
    descriptor = soap(["H", "O"], 3.0, radial_functions=2, max_degree=1, width=0.5)
    found = descriptor(System(np.zeros((1, 3)), [8]))[0]
    large = np.abs(np.asarray(found)) > 1e-14
    assert np.all(large[-6:-3])  # (O,O), degree 0
    assert np.count_nonzero(large) == 3


def test_bessel_functions_are_orthonormal_and_flat_at_the_cutoff():
    nodes, weights = np.polynomial.legendre.leggauss(60)
    r, w = 1.75 * (nodes + 1), 1.75 * weights
    series = radial_integrals.bessel_series(3, 3.5)
    values = radial_integrals.evaluate_series(series, jnp.asarray(r**2), 3.5)
    degrees = np.repeat(np.arange(4), [4, 3, 2, 1])
    for degree in range(4):
        block = values[:, degrees == degree] * (r**degree * r * np.sqrt(w))[:, None]
        np.testing.assert_allclose(block.T @ block, np.eye(4 - degree), atol=1e-12)
    edge = radial_integrals.evaluate_series(series, jnp.asarray([3.5**2, (3.5 - 1e-4) ** 2]), 3.5)
    assert np.abs(edge[0]).max() < 1e-12
    # third order in the distance
    assert 1e-12 < np.abs(edge[1]).max() < 1e-9


def test_wrong_settings_are_refused():
    with pytest.raises(ValueError, match="basis must be one of"):
        soap([1], 4.0, radial_functions=2, max_degree=1, width=0.5, basis="sto")
    with pytest.raises(ValueError, match="width must be a positive number in Å, got 0"):
        soap([1], 4.0, radial_functions=2, max_degree=1, width=0.0)
    with pytest.raises(ValueError, match="got 0 and 1"):
        soap([1], 4.0, radial_functions=0, max_degree=1, width=0.5)
    with pytest.raises(ValueError, match="use a larger width"):
        soap([1], 9.0, radial_functions=1, max_degree=0, width=0.02)(System(np.zeros((1, 3)), [1]))
    with pytest.raises(ValueError, match="transition must be one of"):
        soap([1], 4.0, radial_functions=1, max_degree=0, width=1.0, transition="sharp")
    with pytest.raises(ValueError, match="positive and at most the cutoff"):
        soap([1], 4.0, radial_functions=1, max_degree=0, width=1.0, transition_width=5.0)
    with pytest.raises(ValueError, match="max_order must be at least 0"):
        bessel_power_spectrum([1], 4.0, -1)


@pytest.mark.golden
@pytest.mark.parametrize("key", ["soap_gto", "soap_poly"])
def test_dscribe(reference_dir, key):
    with np.load(reference_dir / "descriptors_dscribe.npz", allow_pickle=False) as file:
        settings = json.loads(str(file["hyperparameters"]))[key]
        descriptor = soap(
            settings["species"], settings["r_cut"], radial_functions=settings["n_max"],
            max_degree=settings["l_max"], width=settings["sigma"], transition="none",
            basis={"soap_gto": "gto_l", "soap_poly": "polynomial"}[key],
        )  # fmt: skip
        systems, _ = golden_systems(file, descriptor.cutoffs)
        assert len(systems) == 6
        for name, (system, atoms, neighbors) in systems.items():
            expected = file[f"{name}/{key}"]
            found = evaluate(descriptor, system, neighbors)
            np.testing.assert_allclose(found[:atoms], expected, atol=1e-8 * expected.max())
            assert not np.any(found[atoms:])
            slopes = f"{name}/{key}_derivatives_centers0_2_atoms0_3"
            if slopes in file.files:
                for row, center in enumerate((0, 2)):
                    weights = np.zeros(found.shape)
                    weights[center] = np.cos(np.arange(found.shape[1]))
                    pulled = pull_back(descriptor, system, jnp.asarray(weights), neighbors)
                    projected = file[slopes][row] @ weights[center]
                    # there the place where the density is seen stays when its atom moves
                    others = [a for a in range(4) if a != center]
                    np.testing.assert_allclose(
                        np.asarray(pulled)[others], projected[others], atol=1e-8
                    )


def featomic_columns(descriptor, first: int, second: int, properties) -> np.ndarray:
    """Feature of each of featomic's (l, n, n') in a block of two elements."""
    a, b = (descriptor.elements.index(z) for z in (first, second))
    count, degrees = descriptor.radial_functions, descriptor.max_degree + 1
    start, columns = 0, {}
    for i in range(len(descriptor.elements)):
        for j in range(i, len(descriptor.elements)):
            for degree in range(degrees):
                for n in range(count):
                    for m in range(n if i == j else 0, count):
                        columns[i, j, degree, n, m] = start
                        start += 1
    return np.array(
        [columns.get((a, b, k, n, m), columns.get((a, b, k, m, n))) for k, n, m in properties]
    )


@pytest.mark.golden
def test_featomic(reference_dir):
    descriptor = soap(
        [1, 6, 7, 8], 4.5, radial_functions=5, max_degree=4, width=0.4,
        transition="shifted_cosine", transition_width=0.5,
    )  # fmt: skip
    with np.load(reference_dir / "descriptors_featomic.npz", allow_pickle=False) as file:
        systems, _ = golden_systems(file, descriptor.cutoffs)
        assert len(systems) == 6
        for name, (system, _, neighbors) in systems.items():
            found = np.asarray(evaluate(descriptor, system, neighbors))
            weights, projected = np.zeros(found.shape), np.zeros(system.positions.shape)
            for q, (_, first, second) in enumerate(file[f"{name}/soap_power_spectrum/keys"]):
                block = f"{name}/soap_power_spectrum/{q}"
                columns = featomic_columns(
                    descriptor, first, second, file[f"{block}/properties"].tolist()
                )
                centers = file[f"{block}/samples"][:, 1]
                # its own conventions: unequal elements stand for both orders, odd degrees negative
                scale = 1.0 if first == second else np.sqrt(2.0)
                scale = scale * (-1.0) ** file[f"{block}/properties"][:, 0]
                expected = file[f"{block}/values"]
                picked = scale * found[centers[:, None], columns]
                np.testing.assert_allclose(picked, expected, atol=1e-7 * np.abs(found).max())
                if f"{block}/grad_values" in file.files:
                    cosines = np.cos(np.arange(expected.size)).reshape(expected.shape)
                    np.add.at(weights, (centers[:, None], columns), scale * cosines)
                    sample, _, atom = file[f"{block}/grad_samples"].T
                    terms = np.einsum("gxf,gf->gx", file[f"{block}/grad_values"], cosines[sample])
                    np.add.at(projected, atom, terms)
            if np.any(weights):
                pulled = pull_back(descriptor, system, jnp.asarray(weights), neighbors)
                np.testing.assert_allclose(pulled, projected, atol=1e-7 * np.abs(projected).max())


@pytest.mark.slow
@pytest.mark.golden
def test_neuralil(reference_dir, monkeypatch):
    """The original rounds two coefficients of each radial function to single precision.

    With that rounding all agrees to the stated tolerance, without it to that of the rounding.
    """
    exact = radial_integrals.slopeless

    def rounded(degree, zeros):
        return tuple(np.float64(np.float32(x)) for x in exact(degree, zeros))

    with np.load(reference_dir / "descriptors_neuralil.npz", allow_pickle=False) as file:
        assert len(file["names"]) == 6
        for rounding, tolerance in ((False, 2e-7), (True, 1e-9)):
            if rounding:
                monkeypatch.setattr(radial_integrals, "slopeless", rounded)
                radial_integrals.bessel_series.cache_clear()
                evaluate.clear_cache()
            for radius in sorted({float(file[f"{n}/r_cut"]) for n in file["names"]}):
                names = [n for n in file["names"] if float(file[f"{n}/r_cut"]) == radius]
                compare_neuralil(file, names, radius, tolerance)
    radial_integrals.bessel_series.cache_clear()
    evaluate.clear_cache()
    pull_back.clear_cache()


def compare_neuralil(file, names, radius, tolerance):
    descriptor = bessel_power_spectrum([1, 6, 7, 8], radius, 4)
    systems, _ = golden_systems(file, descriptor.cutoffs, names=names)
    for name, (system, atoms, neighbors) in systems.items():
        expected = file[f"{name}/power_spectrum"].reshape(atoms, -1)
        found = evaluate(descriptor, system, neighbors)
        np.testing.assert_allclose(found[:atoms], expected, atol=tolerance * expected.max())
        if tolerance < 1e-8:
            weights = np.zeros(found.shape)
            weights[:atoms] = np.cos(np.arange(expected.shape[1]))  # the same for each atom here
            pulled = pull_back(descriptor, system, jnp.asarray(weights), neighbors)
            projected = file[f"{name}/projected_gradient"]
            np.testing.assert_allclose(
                pulled[:atoms], projected, atol=1e-7 * np.abs(projected).max()
            )
