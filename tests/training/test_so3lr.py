"""A network for forces, dipoles, charges and Hirshfeld ratios, as SO3LR was trained."""

import ase.io
import jax
import numpy as np
import pytest
from ase import Atoms

from jaxff import bind
from jaxff.training.comparison import predict_labels
from jaxff.training.config import read_config
from jaxff.training.workflow import prepare

COUNT = 24
RATIOS, CHARGES = {"O": 0.8, "H": 0.5}, {"O": -0.6, "H": 0.3}
SPRINGS = ((0, 1, 30.0, 0.96), (0, 2, 30.0, 0.96), (1, 2, 5.0, 1.52))  # eV/Å², Å
CONFIG = """
[data]
path = "water.xyz"
train = 16
valid = 8
batch_size = 4
forces_key = "my_forces"
defaults = { spin = 0 }
[data.labels]
dipole = ["mu", "Debye"]
hirshfeld_ratios = ["volumes", "1"]
partial_charges = ["charges_of_atoms", "e"]
[model]
name = "so3lr"
cutoff = 3.0
features = 4
layers = 1
heads = 2
degrees = [1, 2]
radial_functions = 4
max_number = 8
[loss]
forces = 0.1
dipole = 10
hirshfeld_ratios = 10
partial_charges = { weight = 10, form = "huber", delta = 0.1 }
[optimizer]
name = "amsgrad"
[learning_rate]
name = "constant_schedule"
value = 0.01
[training]
epochs = 40
ema = 0
"""


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """Springs, fixed charges, and ratios that grow with the bonds."""
    folder, rng = tmp_path_factory.mktemp("so3lr"), np.random.default_rng(0)
    places = np.array([[0.0, 0, 0], [0.76, 0.59, 0], [-0.76, 0.59, 0]])
    frames = [Atoms("OHH", places + 0.06 * rng.normal(size=(3, 3))) for _ in range(COUNT)]
    for frame in frames:
        r = frame.positions
        forces, charges = np.zeros((3, 3)), np.array([CHARGES[s] for s in frame.symbols])
        for i, j, stiffness, rest in SPRINGS:
            length = np.linalg.norm(r[i] - r[j])
            pull = stiffness * (1 - rest / length) * (r[i] - r[j])
            forces[i] -= pull
            forces[j] += pull
        stretch = np.linalg.norm(r[1:] - r[0], axis=1).mean() - 0.96
        frame.arrays |= {
            "my_forces": forces,
            "charges_of_atoms": charges,
            "volumes": np.array([RATIOS[s] for s in frame.symbols]) * (1 + stretch),
        }
        frame.info |= {"mu": charges @ r / 0.20819434, "charge": 0.0}
    ase.io.write(folder / "water.xyz", frames, format="extxyz")
    (folder / "run.toml").write_text(CONFIG)
    return prepare(read_config(folder / "run.toml"))


def test_labels_of_atoms_find_their_predictions(job):
    """Everything but a compilation: units, masks, shapes, and that the loss can be computed."""
    assert job.reference is None  # there are no energies
    batch = job.train.batch(0, 0)
    numbers = np.asarray(batch.system.numbers)
    real = numbers > 0
    np.testing.assert_allclose(
        np.asarray(batch.labels["partial_charges"])[real], np.where(numbers == 8, -0.6, 0.3)[real]
    )
    ratios = np.asarray(batch.labels["hirshfeld_ratios"])[real]
    assert ((ratios > 0.4) & (ratios < 1.0)).all()
    charges = np.where(numbers == 8, -0.6, 0.3) * real
    structure = np.asarray(batch.system.structure)
    moments = np.zeros_like(batch.labels["dipole"])
    np.add.at(moments, structure, charges[:, None] * np.asarray(batch.system.positions))
    used = np.asarray(batch.system.structure_mask)
    np.testing.assert_allclose(np.asarray(batch.labels["dipole"])[used], moments[used], atol=1e-6)
    job.check()
    found = jax.eval_shape(
        lambda p, b: predict_labels(bind(job.network, p), b, job.config.terms().labels),
        job.parameter_shapes(),
        batch,
    )
    for name in ("hirshfeld_ratios", "partial_charges", "dipole"):
        assert found[name].shape == batch.labels[name].shape


def test_a_network_without_the_output_says_so(job):
    text = CONFIG.replace('"so3lr"', '"so3krates"')
    for line in ("defaults = { spin = 0 }\n", "dipole = 10\n"):
        text = text.replace(line, "")
    file = job.config.folder / "other.toml"
    file.write_text(text)
    with pytest.raises(
        ValueError, match=r"cannot observe.*'hirshfeld_ratios'.*the potential offers"
    ):
        prepare(read_config(file)).check()


@pytest.mark.slow
def test_training_fits_all_of_them(job):
    history = [entry["errors"] for entry in job.fit(progress=False).history]
    for name in ("forces", "dipole", "hirshfeld_ratios", "partial_charges"):
        assert history[-1][name]["mae"] < 0.3 * history[0][name]["mae"], name
