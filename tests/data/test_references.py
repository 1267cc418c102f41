"""Reference energies: least squares, what the data do not tell, scales."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mixed_frames import mixed

from jaxff import System
from jaxff.data import label_scale, reference_energies
from jaxff.data.frame import Frame
from jaxff.potential import Potential, bind, scale_shift

TRUE = {1: -13.6, 6: -1030.0, 7: -1480.0, 8: -2040.0}


def frame(numbers, energy=None, forces=None):
    numbers = np.asarray(numbers)
    positions = np.arange(3.0 * len(numbers)).reshape(-1, 3)
    labels = {"energy": np.asarray(energy)} if energy is not None else {}
    if forces is not None:
        labels["forces"] = np.asarray(forces, float)
    return Frame(numbers, positions, labels)


def atoms_energy(numbers):
    return sum(TRUE[z] for z in numbers)


def test_energies_of_atoms_are_found_exactly_where_the_data_tell_them():
    molecules = [[6, 1, 1, 1, 1], [8, 1, 1], [1, 1], [6, 8], [7, 7, 1]]
    frames = [frame(m, atoms_energy(m)) for m in molecules]
    found = reference_energies([*frames, frame([9, 9])])
    for z, energy in TRUE.items():
        assert found.values[z] == pytest.approx(energy, rel=1e-10)
    assert found.values[0] == 0.0
    assert np.isnan(found.values[[2, 3, 4, 5]]).all()
    assert len(found.values) == 9  # fluorine has no energy
    assert found.undetermined.shape == (0, 9)
    assert found.residual < 1e-9
    assert found.frames == 5
    assert "O -2040.000000" in str(found)


def test_one_composition_gives_the_energy_per_atom_and_says_so():
    found = reference_energies([frame([8, 1, 1], -30.0), frame([1, 8, 1], -36.0)])
    assert found.values[[1, 8]] == pytest.approx([-11.0, -11.0])
    assert found.residual == pytest.approx(1.0)
    assert found.undetermined[:, [1, 8]].tolist() == [[-1, 2]]
    assert "do not tell these moves: H -1, O +2" in str(found)


@settings(max_examples=30)
@given(
    st.lists(
        st.lists(st.sampled_from([1, 6, 7, 8]), min_size=1, max_size=6), min_size=1, max_size=6
    )
)
def test_least_squares_of_least_norm(molecules):
    rng = np.random.default_rng(len(molecules))
    energies = rng.normal(size=len(molecules)) * 10
    found = reference_energies([frame(m, e) for m, e in zip(molecules, energies, strict=True)])
    elements = np.unique(np.concatenate(molecules))
    counts = np.array([[m.count(z) for z in elements] for m in molecules], float)
    own = found.values[elements]
    best = counts @ np.linalg.lstsq(counts, energies, rcond=None)[0]
    np.testing.assert_allclose(counts @ own, best, atol=1e-8)
    # moves along the undetermined directions change no composition, and there are all of them
    moves = found.undetermined[:, elements]
    assert not (moves @ counts.T).any()
    assert len(moves) == len(elements) - np.linalg.matrix_rank(counts)
    # nearest to a common energy per atom
    mean = energies.sum() / counts.sum()
    np.testing.assert_allclose(moves @ (own - mean), 0.0, atol=1e-7)


def test_known_energies_are_kept_and_those_of_another_method_warned_of():
    frames = [frame([8, 1, 1], atoms_energy([8, 1, 1])), frame([8, 8], atoms_energy([8, 8]))]
    found = reference_energies(frames, atomic={"H": TRUE[1], "F": -2700.0})
    assert found.values[8] == pytest.approx(TRUE[8])
    assert found.values[9] == -2700.0
    with pytest.warns(UserWarning, match="eV per atom are left"):
        reference_energies(frames, atomic={"H": -0.5, "O": -75.0})
    with pytest.raises(ValueError, match="no element has the symbol 'Q'"):
        reference_energies(frames, atomic={"Q": 1.0})
    with pytest.raises(ValueError, match="none of the 1 frames has the label 'energy'"):
        reference_energies([frame([1])])


def test_they_are_what_scale_shift_takes():
    frames = [frame([8, 1, 1], -100.0), frame([8, 8], -130.0)]
    zero = Potential(
        lambda *_, **__: {}, lambda _, system, __=None: {"energy": jnp.zeros(system.batch_shape)}
    )
    shifted = bind(scale_shift(zero, 1.0, reference_energies(frames).values), {})
    for one in frames:
        # padding has no energy, an element that is not in the data none that is a number
        system = System(np.zeros((4, 3)), np.pad(one.numbers, (0, 4 - len(one))))
        assert float(shifted(system)) == pytest.approx(float(one.labels["energy"]))
    assert np.isnan(shifted(System(np.zeros((4, 3)), np.array([6, 0, 0, 0]))))


def test_scales():
    frames = [
        frame([8], 1.0, [[3.0, 0.0, 0.0]]),
        frame([8, 8], 6.0, [[0.0, 4.0, 0.0], [0.0, 0.0, 0.0]]),
        frame([8]),
    ]
    assert label_scale(frames) == pytest.approx(5 / 3)
    assert label_scale(frames, "energy") == pytest.approx(1.0)
    shift = np.zeros(9)
    shift[8] = 1.0
    assert label_scale(frames[:2], "energy", shift) == pytest.approx(1.0)
    with pytest.raises(ValueError, match="the same in all frames"):
        label_scale(frames[:1], "energy")
    with pytest.raises(ValueError, match="has the label 'dipole'"):
        label_scale(mixed(3), "dipole")
