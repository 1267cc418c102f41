"""A network for several states of charge and spin, as SpookyNet was trained."""

import ase.io
import jax
import numpy as np
import pytest
from ase import Atoms

from jaxff.training.config import read_config
from jaxff.training.workflow import prepare

STATES = [(0, 0), (0, 2), (1, 1), (-1, 1)]
LENGTHS = {(0, 0): 1.0, (0, 2): 1.2, (1, 1): 0.9, (-1, 1): 1.1}  # Å
CONFIG = """
[data]
path = "states.xyz"
train = 32
valid = 16
batch_size = 8
energy_key = "my_energy"
forces_key = "my_forces"
charge_key = "q"
spin_key = "unpaired"
[data.labels]
dipole = ["mu", "Debye"]
partial_charges = ["charges_of_atoms", "e"]
[model]
name = "spookynet"
cutoff = 3.0
features = 8
radial_functions = 4
modules = 2
keep_last_module = 0.95
repulsion = false
dispersion = false
max_number = 8
[loss]
energy = 1
forces = 1
dipole = 1
partial_charges = 1
[optimizer]
name = "amsgrad"
[learning_rate]
name = "constant_schedule"
value = 0.01
[training]
epochs = 200
ema = 0.9
[training.plateau]
factor = 0.5
patience = 25
"""


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """The same bond in all states, whose force law is that of the state; shared charges."""
    folder, rng = tmp_path_factory.mktemp("spookynet"), np.random.default_rng(0)
    frames = []
    for index in range(48):
        charge, spin = state = STATES[index % len(STATES)]
        length = 1.05 + 0.05 * rng.normal()
        frame = Atoms("NH", [[0.0, 0, 0], [0, 0, length]])
        pull = 20.0 * (length - LENGTHS[state])
        charges = np.array([charge / 2 - 0.3, charge / 2 + 0.3])
        frame.arrays |= {
            "my_forces": np.array([[0, 0, pull], [0, 0, -pull]]),
            "charges_of_atoms": charges,
        }
        frame.info |= {
            "my_energy": 10.0 * (length - LENGTHS[state]) ** 2,
            "mu": charges @ frame.positions / 0.20819434,
            "q": charge,
            "unpaired": spin,
        }
        frames.append(frame)
    ase.io.write(folder / "states.xyz", frames, format="extxyz")
    (folder / "run.toml").write_text(CONFIG)
    return prepare(read_config(folder / "run.toml"))


def test_charges_and_spins_come_from_the_file(job):
    """Everything but a compilation: states, random steps, and that the loss can be computed."""
    states = set()
    for index in range(len(job.train)):
        system = job.train.batch(0, index).system
        real = np.asarray(system.structure_mask)
        pairs = zip(np.asarray(system.charge)[real], np.asarray(system.spin)[real], strict=True)
        states |= {(int(charge), int(spin)) for charge, spin in pairs}
    assert states == set(STATES)
    assert job.network.random_apply is not None
    job.check()
    batch = job.train.batch(0, 0)
    shapes = jax.eval_shape(
        job.network.random_apply, job.parameter_shapes(), batch.system, batch.neighbors,
        jax.random.key(0),
    )  # fmt: skip
    plain = jax.eval_shape(job.network.apply, job.parameter_shapes(), batch.system, batch.neighbors)
    assert shapes == plain


def test_frames_without_a_spin_are_refused(job):
    file = job.config.folder / "other.toml"
    file.write_text(CONFIG.replace('spin_key = "unpaired"\n', ""))
    with pytest.raises(ValueError, match="spin"):
        prepare(read_config(file))


@pytest.mark.slow
def test_one_model_tells_states_apart(job):
    """Better than the best that does not know them, which predicts means over the states."""
    blind = {"forces": 20.0 * np.std(list(LENGTHS.values())) / 3, "partial_charges": 0.25}
    found = job.fit(progress=False).history[-1]["errors"]
    for name, error in blind.items():
        assert found[name]["mae"] < 0.3 * error, name
    assert found["dipole"]["mae"] < 0.1
