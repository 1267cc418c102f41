"""Two beads whose mean force is known, seen through noise."""

import numpy as np

from jaxff.system import System

NOISE = 3.0


def spring(distance):
    return 8.0 * (distance - 1.5)


def double_well(distance):
    """Slope of 0.6 eV times (x² - 1)², minima at 1.2 and 1.8 Å."""
    x = (distance - 1.5) / 0.3
    return 0.6 * 4.0 * x * (x**2 - 1.0) / 0.3


def dimers(slope, count, rng, noise=NOISE):
    """Stack of dimers in space, their noisy forces, mean forces, and distances."""
    distance = rng.uniform(1.1, 1.9, count)
    direction = rng.normal(size=(count, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    far = distance[:, None] * direction
    positions = np.stack([np.zeros_like(far), far], axis=1)
    pull = slope(distance)[:, None] * direction
    mean = np.stack([pull, -pull], axis=1)
    systems = System(positions, [1, 1])
    return systems, mean + noise * rng.normal(size=mean.shape), mean, distance
