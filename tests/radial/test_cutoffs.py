import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxff.radial import cutoffs

CUTOFF, ONSET = 4.0, 2.5


def switching(r, cutoff):
    return cutoffs.switching(r, ONSET, cutoff)


def smooth_switching(r, cutoff):
    return cutoffs.smooth_switching(r, ONSET, cutoff)


def part(x):
    return np.where(x > 0, np.exp(-1 / np.where(x > 0, x, 1)), 0.0)


FUNCTIONS = {
    # function, number of derivatives that vanish at the cutoff, values at 0, 1, 3 and 3.9 Å
    "cosine": (cutoffs.cosine, 1, lambda r: np.cos(np.pi * r / 8) ** 2),
    "polynomial": (
        cutoffs.polynomial,
        2,
        lambda r: 1 - 28 * (r / 4) ** 6 + 48 * (r / 4) ** 7 - 21 * (r / 4) ** 8,
    ),
    "polynomial of power 3": (
        lambda r, c: cutoffs.polynomial(r, c, 3),
        2,
        lambda r: 1 - 10 * (r / 4) ** 3 + 15 * (r / 4) ** 4 - 6 * (r / 4) ** 5,
    ),
    "smoothstep": (
        cutoffs.smoothstep,
        2,
        lambda r: 1 - 10 * (r / 4) ** 3 + 15 * (r / 4) ** 4 - 6 * (r / 4) ** 5,
    ),
    "bump": (cutoffs.bump, 4, lambda r: np.exp(-(r**2) / (16 - r**2))),
    "switching": (
        switching,
        2,
        lambda r: np.where(
            r < 2.5,
            1.0,
            1 - ((r - 2.5) / 1.5) ** 3 * (10 - 15 * (r - 2.5) / 1.5 + 6 * ((r - 2.5) / 1.5) ** 2),
        ),
    ),
    "smooth_switching": (
        smooth_switching,
        4,
        lambda r: part((4 - r) / 1.5) / (part((4 - r) / 1.5) + part((r - 2.5) / 1.5)),
    ),
}


def derivatives(function, order):
    for _ in range(order):
        function = jax.grad(function)
    return jax.jit(jax.vmap(function))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_closed_form(name):
    function, _, expected = FUNCTIONS[name]
    r = np.linspace(0.0, CUTOFF - 1e-9, 400)
    np.testing.assert_allclose(function(jnp.asarray(r), CUTOFF), expected(r), atol=1e-14)
    assert float(function(jnp.asarray(0.0), CUTOFF)) == 1.0


@pytest.mark.parametrize("name", FUNCTIONS)
def test_decreases_from_one_to_zero(name):
    values = np.asarray(FUNCTIONS[name][0](jnp.linspace(0.0, 1.5 * CUTOFF, 500), CUTOFF))
    assert (np.diff(values) <= 1e-15).all()
    assert (values[334:] == 0.0).all()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_derivatives_vanish_at_the_cutoff(name):
    function, smooth, _ = FUNCTIONS[name]
    near = jnp.asarray([CUTOFF - 1e-5, CUTOFF, CUTOFF + 1e-5, 2 * CUTOFF])
    for order in range(smooth + 2):
        values = np.asarray(derivatives(lambda r: function(r, CUTOFF), order)(near))
        assert np.isfinite(values).all()
        assert (values[2:] == 0.0).all()
        if order <= smooth:
            assert abs(values[0]) < 1e-3
    if smooth < 4:
        # One more would be claimed too much.
        assert abs(values[0]) > 0.1


def test_switching_is_smooth_at_the_onset():
    near = jnp.asarray([ONSET - 1e-6, ONSET, ONSET + 1e-6])
    for function in (switching, smooth_switching):
        for order in (1, 2):
            values = derivatives(lambda r, f=function: f(r, CUTOFF), order)(near)
            np.testing.assert_allclose(values, 0.0, atol=1e-4)


@settings(max_examples=30)
@given(st.floats(0.0, 10.0), st.floats(0.1, 8.0), st.sampled_from([np.float32, np.float64]))
def test_values_and_gradients_are_finite(r, cutoff, dtype):
    switch = functools.partial(cutoffs.smooth_switching, onset=0.0)
    for function in (cutoffs.cosine, cutoffs.polynomial, cutoffs.smoothstep, cutoffs.bump, switch):
        value, slope = jax.value_and_grad(function)(jnp.asarray(r, dtype), cutoff=cutoff)
        assert value.dtype == dtype
        assert -1e-5 <= value <= 1
        assert np.isfinite(slope)
        assert slope <= 1e-5


@pytest.mark.parametrize("cutoff", [0.0, -1.0, np.inf, np.nan])
def test_bad_cutoffs(cutoff):
    functions = (cutoffs.cosine, cutoffs.polynomial, cutoffs.smoothstep, cutoffs.bump, switching)
    for function in functions:
        with pytest.raises(ValueError, match="cutoff must be a positive number"):
            function(jnp.ones(2), cutoff)


def test_bad_settings():
    with pytest.raises(ValueError, match="onset must be from 0"):
        cutoffs.switching(jnp.ones(2), 4.0, 4.0)
    with pytest.raises(ValueError, match="onset must be from 0"):
        cutoffs.smooth_switching(jnp.ones(2), 4.0, 4.0)
    with pytest.raises(ValueError, match="power must be at least 1"):
        cutoffs.polynomial(jnp.ones(2), 4.0, 0)
