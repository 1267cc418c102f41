"""Labels as functionals of an energy."""

import numpy as np
import pytest
from kernel_models import crystal, water

from jaxff.gdml.labels import rigid_motions
from jaxff.system import System

LINE = np.array([[0.0, 0.0, 0.0], [1.1, 0.0, 0.0], [2.3, 0.0, 0.0]])


@pytest.mark.parametrize(
    ("systems", "expected"),
    [
        (water(3), 6),
        (System(LINE[None], [8, 6, 8]), 5),
        (System(np.stack([LINE, np.asarray(water(1).positions[0])]), [8, 1, 1]), 5),
        (crystal(2), 3),
    ],
    ids=["molecule", "linear", "one of them linear", "periodic"],
)
def test_rigid_motions_leave_distances_alone(systems, expected):
    axes, rigid = rigid_motions(systems)
    assert rigid == expected
    count, atoms = systems.positions.shape[:2]
    assert np.allclose(np.swapaxes(axes, 1, 2) @ axes, np.eye(3 * atoms), atol=1e-12)
    moved = np.asarray(systems.positions)[:, None] + 1e-6 * np.moveaxis(
        axes[:, :, :rigid].reshape(count, atoms, 3, rigid), -1, 1
    )
    for before, after in zip(np.asarray(systems.positions), moved, strict=True):
        distances = np.linalg.norm(before[:, None] - before, axis=-1)
        changed = np.linalg.norm(after[:, :, None] - after[:, None], axis=-1)
        assert np.abs(changed - distances).max() < 1e-11
