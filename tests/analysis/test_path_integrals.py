"""Estimators as derivatives of the weight of a ring polymer by the inverse temperature."""

import numpy as np
import pytest

from jaxff import analysis, units
from jaxff.dynamics import Restart, Trajectory

BEADS, ATOMS, KELVIN = 5, 3, 200.0
MASSES = np.array([1.0, 16.0, 12.0])
STIFFNESS = np.array([2.0, 5.0, 3.0])[:, None]


def potential(place):
    return np.sum(STIFFNESS * (place**2 + 0.3 * place**4), axis=(-2, -1))


def force(place):
    return -STIFFNESS * (2.0 * place + 1.2 * place**3)


def trajectory(ensemble="path-integral"):
    place = 0.3 * np.random.default_rng(0).normal(size=(BEADS, 2, ATOMS, 3))
    zero = np.zeros((BEADS, 2))
    return Trajectory(
        steps=np.arange(2), times=np.arange(2.0), positions=place, velocities=0.1 * place,
        forces=force(place), potential_energy=potential(place), kinetic_energy=zero,
        temperature=zero, numbers=np.array([1, 8, 6]), masses=MASSES, cell=None, pbc=None,
        degrees_of_freedom=np.full(BEADS, 9 * BEADS),
        restart=Restart(0, np.tile([1, 8, 6], (BEADS, 1)), place[:, 0], place[:, 0],
                        np.zeros((BEADS, 2), np.uint32), ensemble, 0.5, ()),
    )  # fmt: skip


def minus_log_weight(beta, place):
    """Of one configuration, with what the momenta give; masses in eV fs²/Å²."""
    mass = (MASSES * units.TIME**2)[:, None]
    apart = place - np.roll(place, -1, axis=0)
    springs = 0.5 * BEADS / (units.REDUCED_PLANCK**2 * beta) * np.sum(mass * apart**2)
    free = 1.5 * ATOMS * BEADS * np.log(beta)
    return free + springs + beta / BEADS * np.sum(potential(place))


def slope(function, beta):
    return (function(beta * 1.0001) - function(beta / 1.0001)) / (beta * 1.0001 - beta / 1.0001)


def test_energies_are_derivatives_of_the_weight():
    run = trajectory()
    energies = analysis.quantum_energies(run, KELVIN)
    beta = 1.0 / (units.BOLTZMANN * KELVIN)
    for frame in range(2):
        place = run.positions[:, frame]
        expected = slope(lambda b, x=place: minus_log_weight(b, x), beta)
        found = energies.potential[frame] + energies.primitive_kinetic[frame]
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        middle = place.mean(axis=0)

        # Beads that shrink towards their middle as the root of 1/T keep the springs as they are;
        # the volume that they then lose takes all but 3 N/2 of the logarithm.
        def scaled(b, place=place, middle=middle):
            x = middle + np.sqrt(b / beta) * (place - middle)
            return minus_log_weight(b, x) - 1.5 * ATOMS * (BEADS - 1) * np.log(b)

        found = energies.potential[frame] + energies.virial_kinetic[frame]
        np.testing.assert_allclose(found, slope(scaled, beta), rtol=1e-6)


def test_rings_and_their_middles():
    run = trajectory()
    middle = analysis.centroids(run)
    np.testing.assert_allclose(middle.positions, run.positions.mean(axis=0))
    radius = analysis.radius_of_gyration(run)
    np.testing.assert_allclose(radius**2, np.var(run.positions, axis=0).sum(axis=-1))
    speed = run.velocities.mean(axis=0)
    kinetic = 0.5 * units.TIME**2 * np.sum(MASSES[:, None] * speed**2, axis=(1, 2))
    np.testing.assert_allclose(middle.temperature, 2 * kinetic / (9 * units.BOLTZMANN))
    assert (middle.replicas, middle.degrees_of_freedom) == (None, 9)


def test_refuses():
    for function in (
        analysis.centroids,
        analysis.radius_of_gyration,
        lambda run: analysis.quantum_energies(run, KELVIN),
    ):
        with pytest.raises(ValueError, match="expected the beads of a path integral, got a run of"):
            function(trajectory("langevin"))
    with pytest.raises(ValueError, match="temperature must be a positive number in K, got -1"):
        analysis.quantum_energies(trajectory(), -1.0)
