import ase.io
import numpy as np
import pytest

from jaxff.vibrations import normal_modes, write_modes

POSITIONS = np.array([[0.0, 0, 0], [0, 0, 1.1]])


def stretch():
    block = 30.0 * np.array([[1, -1], [-1, 1]])
    return normal_modes(np.kron(block, np.diag([0, 0, 1.0])), [12.0, 16.0], POSITIONS)


def test_viewers_read_one_period_per_mode(tmp_path):
    modes = stretch()
    write_modes(tmp_path / "modes.xyz", [6, 8], POSITIONS, modes, frames=8, amplitude=0.3)
    frames = ase.io.read(tmp_path / "modes.xyz", ":")
    assert len(frames) == 8
    moved = np.array([frame.positions for frame in frames]) - POSITIONS
    assert np.linalg.norm(moved, axis=-1).max() == pytest.approx(0.3, abs=1e-6)
    np.testing.assert_allclose(moved[0], 0.0, atol=1e-8)
    np.testing.assert_allclose(moved[2], -moved[6], atol=1e-7)
    np.testing.assert_allclose(moved[:, 0] * 12.0, -moved[:, 1] * 16.0, atol=1e-6)
    assert frames[3].info["mode"] == 1
    assert frames[3].info["wavenumber_cm"] == pytest.approx(modes.frequencies[0], abs=1e-3)
    assert not frames[0].pbc.any()


def test_cell_and_choice(tmp_path):
    path = tmp_path / "modes.xyz"
    write_modes(path, [6, 8], POSITIONS, stretch(), indices=[0, 0], frames=3, cell=4 * np.eye(3))
    frames = ase.io.read(path, ":")
    assert len(frames) == 6
    assert frames[0].pbc.all()
    np.testing.assert_allclose(frames[0].cell, 4 * np.eye(3))
    with pytest.raises(ValueError, match="indices"):
        write_modes(path, [6, 8], POSITIONS, stretch(), indices=[1])
