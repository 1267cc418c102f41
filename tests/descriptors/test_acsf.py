import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from descriptor_checks import evaluate, golden_systems, pull_back
from models import molecule

from jaxff.descriptors import acsf, ani, ani_1x, ani_2x
from jaxff.system import System

ANGLE = System([[0.0, 0, 0], [1.1, 0, 0], [0, 1.3, 0]], [8, 1, 6])


def test_symmetry_functions_by_hand():
    """At a right angle: one neighbour of each of two elements."""
    descriptor = acsf(
        ["H", "C", "O"], 3.0, g2=[(0.5, 0.7)], g3=[1.9], g4=[(0.1, 2, -1)], g5=[(0.2, 3, 1)],
        cutoff_function="cosine",
    )  # fmt: skip
    found = evaluate(descriptor, ANGLE)[0]
    d = np.array([1.1, 1.3])
    third = np.hypot(*d)
    f = 0.5 * (1 + np.cos(np.pi * d / 3))
    radial = np.stack([f, f * np.exp(-0.5 * (d - 0.7) ** 2), f * np.cos(1.9 * d)], axis=1)
    np.testing.assert_allclose(found[:9], [*radial.ravel(), 0, 0, 0], atol=1e-14)
    closed = 0.5 * np.exp(-0.1 * 2 * third**2) * f.prod() * 0.5 * (1 + np.cos(np.pi * third / 3))
    opened = 0.25 * np.exp(-0.2 * third**2) * f.prod()
    # pairs (H,H), (C,H), (C,C), (O,H), (O,C), (O,O)
    expected = [0, 0, closed, opened, *[0] * 8]
    np.testing.assert_allclose(found[9:], expected, atol=1e-14)


def test_parameters_can_be_given_by_name_and_differentiated():
    system = molecule(2)
    descriptor = acsf([1, 6, 8], 4.0, g2=[(0.5, 1.0)], g3=[2.0], g4=[(0.1, 1, 1)], g5=[(0.2, 1, 1)])
    hyper = {
        "g2": jnp.asarray([[0.7, 1.2]]),
        "g3": jnp.asarray([1.5]),
        "g4_widths": jnp.asarray([0.3]),
        "g5_widths": jnp.asarray([0.4]),
    }
    other = acsf([1, 6, 8], 4.0, g2=[(0.7, 1.2)], g3=[1.5], g4=[(0.3, 1, 1)], g5=[(0.4, 1, 1)])
    expected = evaluate(other, system)
    np.testing.assert_allclose(evaluate(descriptor, system, hyper=hyper), expected, rtol=1e-13)
    slopes = jax.jit(jax.jacfwd(lambda h: descriptor(system, **h)))(hyper)
    for name, slope in slopes.items():
        assert np.abs(slope).max() > 1e-3, name


def test_sections_of_ani_are_peaks_of_the_angle():
    """The largest section is the one nearest to the angle of the molecule."""
    descriptor = ani(
        [1, 8], radial_cutoff=4.0, radial_width=4.0, radial_shifts=[1.0], angular_cutoff=4.0,
        angular_width=4.0, zeta=16.0, angular_shifts=[1.0], sections=[0.5, 1.0, 1.5, 2.0, 2.5],
    )  # fmt: skip
    for angle, section in ((0.55, 0), (1.05, 1), (1.9, 3), (2.6, 4)):
        bent = System([[0, 0, 0], [1, 0, 0], [np.cos(angle), np.sin(angle), 0.0]], [8, 1, 1])
        found = evaluate(descriptor, bent)[0]
        assert int(np.argmax(found[2:7])) == section
        assert np.array_equal(found[7:], np.zeros(10))  # no pairs with oxygen


def test_wrong_settings_are_refused():
    with pytest.raises(ValueError, match="g4 must have 3 numbers"):
        acsf([1], 4.0, g4=[(1.0, 2.0)])
    with pytest.raises(ValueError, match="zeta must be a whole number from 1 on"):
        acsf([1], 4.0, g5=[(1.0, 1.5, 1.0)])
    with pytest.raises(ValueError, match=r"one of \['bump', 'cosine'"):
        acsf([1], 4.0, cutoff_function="sharp")
    with pytest.raises(ValueError, match="positive number in Å, got 0"):
        acsf([1], 0.0)
    settings = dataclasses.asdict(ani_1x())
    with pytest.raises(ValueError, match="sections must be angles from 0 to π"):
        ani(**{**settings, "sections": [4.0]})
    with pytest.raises(ValueError, match="zeta must be positive"):
        ani(**{**settings, "zeta": 0.0})


@pytest.mark.golden
def test_dscribe(reference_dir):
    with np.load(reference_dir / "descriptors_dscribe.npz", allow_pickle=False) as file:
        settings = json.loads(str(file["hyperparameters"]))["acsf"]
        tables = {name: settings[f"{name}_params"] for name in ("g2", "g3", "g4", "g5")}
        descriptor = acsf(
            settings["species"], settings["r_cut"], **tables, cutoff_function="cosine"
        )
        systems, most = golden_systems(file, descriptor.cutoffs)
        descriptor = dataclasses.replace(descriptor, max_neighbors=most)
        assert len(systems) == 6
        for name, (system, atoms, neighbors) in systems.items():
            expected = file[f"{name}/acsf"]
            found = evaluate(descriptor, system, neighbors)
            np.testing.assert_allclose(found[:atoms], expected, atol=1e-12 * expected.max())
            assert not np.any(found[atoms:])
            slopes = f"{name}/acsf_fd_derivatives_atoms0_3"
            if slopes in file.files:
                weights = np.zeros(found.shape)
                weights[:atoms] = np.cos(np.arange(expected.size)).reshape(expected.shape)
                pulled = pull_back(descriptor, system, jnp.asarray(weights), neighbors)
                projected = np.einsum("axnf,nf->ax", file[slopes], weights[:atoms])
                np.testing.assert_allclose(pulled[:4], projected, atol=1e-6)


@pytest.mark.golden
@pytest.mark.parametrize("version", ["1x", pytest.param("2x", marks=pytest.mark.slow)])
def test_torchani(reference_dir, version):
    published = {"1x": ani_1x, "2x": ani_2x}[version](cutoff_function="cosine")
    with np.load(reference_dir / "descriptors_ani.npz", allow_pickle=False) as file:
        buffers = {
            k.split(".", 1)[1]: tuple(file[k].tolist())
            for k in file.files
            if k.startswith(f"params/{version}.") and file[k].ndim == 1
        }
        systems, most = golden_systems(file, published.cutoffs)
        assert len(systems) == 6
        stored = dataclasses.replace(
            published,
            radial_width=buffers["radial.eta"][0],
            radial_shifts=buffers["radial.shifts"],
            angular_width=buffers["angular.eta"][0],
            zeta=buffers["angular.zeta"][0],
            angular_shifts=buffers["angular.shifts"],
            sections=buffers["angular.sections"],
            max_neighbors=most,
        )
        for name, (system, atoms, neighbors) in systems.items():
            expected = file[f"{name}/aev_{version}"]
            found = evaluate(stored, system, neighbors)
            np.testing.assert_allclose(found[:atoms], expected, atol=1e-12 * expected.max())
            weights = np.zeros(found.shape)
            weights[:atoms] = np.cos(np.arange(expected.shape[1]))  # the same for each atom here
            pulled = pull_back(stored, system, jnp.asarray(weights), neighbors)
            projected = file[f"{name}/aev_{version}_projected_gradient"]
            np.testing.assert_allclose(
                pulled[:atoms], projected, atol=1e-10 * np.abs(projected).max()
            )
        # the buffers are rounded to single precision; the published numbers are not
        system, atoms, neighbors = systems["ethanol"]
        exact = evaluate(dataclasses.replace(published, max_neighbors=most), system, neighbors)
        np.testing.assert_allclose(exact[:atoms], file[f"ethanol/aev_{version}"], atol=1e-6)
