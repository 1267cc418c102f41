"""The shadow energy of velocity Verlet: closed form for an oscillator, order for a molecule."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxff import System, dynamics, units


def dimer_energy(system, neighbors=None):
    stretch = jnp.linalg.norm(system.positions[0] - system.positions[1]) - 1.1
    return 15.0 * stretch**2


def test_fluctuation_falls_with_the_fourth_power_of_the_time_step():
    system = System(np.array([[0.0, 0.0, 0.0], [1.13, 0.02, 0.01]]), np.array([7, 7]))
    fluctuations = []
    for timestep in (1.0, 0.5):
        run = dynamics.run(
            dimer_energy, system, ensemble=dynamics.nve(timestep), steps=int(400 / timestep),
            velocities=np.zeros((2, 3)), every=2, chunk=100,
        )  # fmt: skip
        shadow = dynamics.shadow_energy(dimer_energy, system, run, timestep=timestep)
        fluctuations.append((np.std(run.total_energy), np.std(shadow)))
    (total, shadow), (finer_total, finer_shadow) = fluctuations
    assert shadow < 0.1 * total
    assert 3.5 < total / finer_total < 4.5
    assert 12.0 < shadow / finer_shadow < 20.0


def test_correction_of_a_harmonic_oscillator():
    spring, mass = 3.0, 12.0

    def energy(system, neighbors=None):
        return 0.5 * spring * jnp.sum(system.positions**2)

    system = System(np.zeros((1, 3)), np.array([6]))
    run = dynamics.run(
        energy, system, ensemble=dynamics.nve(2.0), steps=300,
        velocities=np.array([[0.01, 0.0, 0.0]]), masses=np.array([mass]), every=1, chunk=300,
    )  # fmt: skip
    shadow = dynamics.shadow_energy(energy, system, run, timestep=2.0)
    speed2 = np.sum(np.asarray(run.velocities) ** 2, axis=(1, 2))
    place2 = np.sum(np.asarray(run.positions) ** 2, axis=(1, 2))
    inertia = mass * units.TIME**2
    expected = run.total_energy + 4.0 * (spring * speed2 / 12 - spring**2 * place2 / inertia / 24)
    np.testing.assert_allclose(shadow, expected, rtol=1e-12)
    assert jax.config.jax_enable_x64
