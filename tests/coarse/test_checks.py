"""Units and signs of forces, from the virial."""

import numpy as np
import pytest

from jaxff.coarse.checks import check_units, virial_ratio
from jaxff.system import System
from jaxff.units import BOLTZMANN

THERMAL = 300.0 * BOLTZMANN


def test_units_show_in_the_virial():
    """Bound beads: the relative coordinates obey equipartition, whatever the potential."""
    rng = np.random.default_rng(1)
    # Three beads, the last two on springs to the first, which goes where it likes.
    moved = rng.normal(size=(4000, 2, 3)) * np.sqrt(THERMAL / np.array([2.0, 5.0]))[:, None]
    pull = -np.array([2.0, 5.0])[:, None] * moved
    home = 10 * rng.normal(size=(4000, 1, 3))
    systems = System(np.concatenate([home, home + moved], axis=1), [1, 1, 1])
    forces = np.concatenate([-pull.sum(axis=1, keepdims=True), pull], axis=1)
    forces += rng.normal(size=forces.shape)
    ratio, error = virial_ratio(systems, forces, 300.0)
    assert error < 0.1
    assert abs(ratio - 1.0) < 3 * error
    check_units(systems, forces, 300.0)
    with pytest.raises(ValueError, match="kcal/mol/Å"):
        check_units(systems, 23.06 * forces, 300.0)
    with pytest.raises(ValueError, match="gradients"):
        check_units(systems, -forces, 300.0)
    with pytest.raises(ValueError, match="their unit"):
        check_units(systems, 6.0 * forces, 300.0)
    with pytest.raises(ValueError, match="shape of the positions"):
        check_units(systems, forces[:, 1:], 300.0)
