import jax
import jax.numpy as jnp
import numpy as np
import pytest
from descriptor_checks import evaluate, golden_system, padded, path, pull_back
from models import molecule

from jaxff.descriptors import fchl19
from jaxff.system import System

LINEAR = System([[0.0, 0, 0], [0, 0, 1.2], [0, 0, -1.2]], [6, 8, 8])


def test_two_body_functions_are_log_normal():
    """Their integral over the radius is the cutoff function over the power of the distance."""
    descriptor = fchl19(
        [1], radial_cutoff=8.0, radial_functions=4000, angular_functions=1, angular_cutoff=1.0,
        cutoff_function="cosine",
    )  # fmt: skip
    for d in (0.9, 2.5):
        found = descriptor(System([[0.0, 0, 0], [0, 0, d]], [1, 1]))[0, :4000]
        expected = 0.5 * (1 + np.cos(np.pi * d / 8)) / d**1.8
        np.testing.assert_allclose(found.sum() * 8 / 4000, expected, rtol=1e-4)


def test_hyperparameters_can_be_given_by_name_and_differentiated():
    system = molecule(2)
    settings = {"radial_functions": 3, "angular_functions": 2, "orders": 2}
    descriptor = fchl19([1, 6, 8], **settings)
    hyper = {
        "two_body_width": 0.4, "two_body_decay": 1.5, "three_body_width": 2.0,
        "three_body_decay": 0.8, "three_body_weight": 5.0, "angular_width": 2.0,
    }  # fmt: skip
    other = fchl19([1, 6, 8], **settings, **hyper)
    hyper = {k: jnp.asarray(v) for k, v in hyper.items()}
    found = evaluate(descriptor, system, hyper=hyper)
    np.testing.assert_allclose(found, evaluate(other, system), rtol=1e-12)
    slopes = jax.jit(jax.jacfwd(lambda h: descriptor(system, **h)))(hyper)
    for name, slope in slopes.items():
        assert np.abs(slope).max() > 1e-6, name


@pytest.mark.parametrize("softening", [0.0, 0.1])
def test_waves_are_multiples_of_the_angle(softening):
    descriptor = fchl19([1], orders=3, softening=softening)
    angle = np.linspace(0.2, 3.0, 7)
    found = descriptor._waves(jnp.cos(angle), 1.0)
    order = np.array([1, 3, 5])
    scale = 2 * np.exp(-0.5 * order**2)
    np.testing.assert_allclose(found[:, 0::2], np.cos(order * angle[:, None]) * scale, atol=1e-13)
    ratio = np.sqrt(np.sin(angle) ** 2 + softening**2) / np.sin(angle)
    sines = np.sin(order * angle[:, None]) * ratio[:, None]
    np.testing.assert_allclose(found[:, 1::2], sines * scale, atol=1e-13)


def test_straight_angles_are_smooth_unless_published():
    """Slopes on both sides of a straight angle; finite at it in any case."""
    direction = jnp.zeros((3, 3)).at[1, 0].set(1.0)
    times = jnp.asarray([-1e-6, 0.0, 1e-6])
    jumps = {}
    for softening in (0.1, 0.0):
        descriptor = fchl19([6, 8], radial_functions=2, softening=softening)
        _, first, second = path(descriptor, LINEAR, direction, times)
        assert np.isfinite(first).all()
        assert np.isfinite(second).all()
        jumps[softening] = np.abs(first[2] - first[0]).max()
    assert jumps[0.1] < 1e-5
    assert jumps[0.0] > 1e-2
    assert fchl19([6, 8]).smoothness == np.inf
    assert fchl19([6, 8], softening=0.0).smoothness == 0


def test_wrong_settings_are_refused():
    with pytest.raises(ValueError, match="softening must not be negative"):
        fchl19([1], softening=-0.1)
    with pytest.raises(ValueError, match="orders must be at least 1, got 0"):
        fchl19([1], orders=0)
    with pytest.raises(TypeError, match="sharpness"):
        fchl19([1], sharpness=2.0)


@pytest.mark.golden
def test_qmllib(reference_dir):
    descriptor = fchl19([1, 6, 7, 8], cutoff_function="cosine", softening=0.0)
    with np.load(reference_dir / "descriptors_fchl19.npz", allow_pickle=False) as file:
        assert len(file["names"]) == 4
        for name in file["names"]:
            expected = file[f"{name}/fchl19"]
            atoms, size = expected.shape
            assert size == descriptor.size
            system = padded(golden_system(file, name), 21)
            found = evaluate(descriptor, system)
            np.testing.assert_allclose(found[:atoms], expected, atol=1e-10 * expected.max())
            if f"{name}/fchl19_projected_gradient" in file.files:
                weights = np.zeros(found.shape)
                weights[:atoms] = np.cos(np.arange(expected.size)).reshape(expected.shape)
                pulled = pull_back(descriptor, system, jnp.asarray(weights))[:atoms]
                projected = file[f"{name}/fchl19_projected_gradient"]
                np.testing.assert_allclose(pulled, projected, atol=1e-10 * abs(projected).max())
