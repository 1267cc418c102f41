"""``jaxff coarse-grain`` on a chain of springs whose free energy is known."""

import json
import re

import jax
import numpy as np
import pytest

from jaxff import bind, cli, coarse, io, units
from jaxff.coarse import priors
from jaxff.coarse.config import read_config
from jaxff.potential import add
from jaxff.system import System

KELVIN = 300.0
BONDS, ANGLES = [(0, 1), (1, 2), (2, 3), (3, 4)], [(0, 1, 2), (1, 2, 3), (2, 3, 4)]
LENGTH, ANGLE = np.array([1.5, 1.4, 1.5, 1.0]), np.radians([110.0, 115.0, 105.0])
STIFF, BEND = 2.0, 0.5  # eV/Å², eV/rad²
CONFIG = """
temperature = 300.0

[data]
path = "part*.npz"

[map]
atoms = [0, 1, 2, 3]

[prior]
bonds = [[0, 1], [1, 2], [2, 3]]
angles = [[0, 1, 2], [1, 2, 3]]

[variables]
dihedrals = [[0, 1, 2, 3]]
names = ["φ"]
cells = 36

[models.streamed]
kind = "inducing"
descriptor = "inverse_distances"
inducing = 12
lengthscale = 1.0

[simulate]
steps = 2000
replicas = 20
every = 20
timestep = 0.03

[compare]
bins = 12
states = { right = [[0, 180]] }
"""


def placed(bonds, angles, turns):
    """Positions of a chain from its internal coordinates, frames first."""
    count = len(bonds)
    at = np.zeros((count, 5, 3))
    at[:, 1, 0] = bonds[:, 0]
    way = np.pi - angles[:, 0]
    at[:, 2] = at[:, 1] + bonds[:, 1, None] * np.stack([np.cos(way), np.sin(way), 0 * way], axis=1)
    for i in (3, 4):
        along = at[:, i - 1] - at[:, i - 2]
        along /= np.linalg.norm(along, axis=1, keepdims=True)
        normal = np.cross(at[:, i - 2] - at[:, i - 3], along)
        normal /= np.linalg.norm(normal, axis=1, keepdims=True)
        turn, bend = turns[:, i - 3, None], np.pi - angles[:, i - 2, None]
        side = np.cos(turn) * np.cross(normal, along) + np.sin(turn) * normal
        at[:, i] = at[:, i - 1] + bonds[:, i - 1, None] * (
            np.cos(bend) * along + np.sin(bend) * side
        )
    return at


def sampled(count, rng):
    """Frames of the canonical ensemble of springs, turns free, and the forces on the atoms."""
    thermal = units.BOLTZMANN * KELVIN
    bonds = LENGTH + np.sqrt(thermal / STIFF) * rng.normal(size=(8 * count, 4))
    angles = ANGLE + np.sqrt(thermal / BEND) * rng.normal(size=(8 * count, 3))
    weights = np.prod(bonds**2, axis=1) * np.prod(np.sin(angles), axis=1)
    index = rng.choice(8 * count, count, replace=False, p=weights / weights.sum())
    at = placed(bonds[index], angles[index], rng.uniform(-np.pi, np.pi, (count, 2)))
    springs = add(priors.harmonic_bonds(BONDS), priors.harmonic_angles(ANGLES))
    key, system = jax.random.key(0), System(at[0], [6, 6, 6, 6, 1])
    first = springs_of(priors.harmonic_bonds(BONDS), key, system, length=LENGTH, stiffness=STIFF)
    other = springs_of(priors.harmonic_angles(ANGLES), key, system, angle=ANGLE, stiffness=BEND)
    model = bind(springs, (first, other))
    return at, coarse.predict_forces(model, System(at, [6, 6, 6, 6, 1]))


def springs_of(potential, key, system, **named):
    return potential.init(key, system, **named)


def written(path, at, forces, **others):
    content = {"type": "d", "z": [6, 6, 6, 6, 1], "R": at, "F": forces, "e_unit": "eV",
               "r_unit": "Ang", **others}  # fmt: skip
    np.savez(
        path, **{key: np.asarray(value) for key, value in content.items() if value is not None}
    )


@pytest.fixture(scope="module")
def trajectory():
    return sampled(600, np.random.default_rng(0))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, trajectory):
    """The command was run here once."""
    folder = tmp_path_factory.mktemp("chain")
    at, forces = trajectory
    written(folder / "part0.npz", at[:300], forces[:300])
    written(folder / "part1.npz", at[300:], forces[300:])
    (folder / "chain.toml").write_text(CONFIG)
    assert run(folder / "chain.toml") == 0
    return folder


def run(*arguments):
    return cli.main(["coarse-grain", *(str(a) for a in arguments)])


def test_one_command_goes_from_atoms_to_free_energies(folder):
    found = folder / "chain"
    made = json.loads((found / "map.json").read_text())
    assert made["frames"] == 600
    assert made["virial"] == pytest.approx(1.0, abs=0.4)
    # The last atom hangs on the last bead: in the sum of their forces its spring is gone.
    weights = np.array(made["force_map"])
    assert np.allclose(weights[:, :4], np.eye(4), atol=1e-8)
    assert abs(weights[3, 4] - 1.0) < 0.2
    _, params = io.load(found / "streamed.safetensors")
    assert len(params) == 2  # with its prior
    record = json.loads((found / "comparison.json").read_text())["ensembles"]
    assert record["trajectory"]["jensen_shannon"] == 0.0
    own = record["streamed"]
    assert own["jensen_shannon"] < 0.04  # turns are free
    share, error = own["populations"]["right"]
    assert abs(share - 0.5) < 4 * error + 0.1
    assert max(own["bonds_jensen_shannon"]) < 0.05
    page = (found / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 3
    assert not re.search(r"(?:src|href)=\"(?!data:)|https?:", page)
    with np.load(found / "surfaces.npz") as archive:
        assert archive["streamed_free_energy_eV"].shape == archive["φ_degrees"].shape == (12,)


LAYERS = """
[models.layers]
kind = "two_layers"
descriptor = "inverse_distances"
lengthscale = 1.0
batch = 50
batches = 5
second = 60

[models.one]
kind = "single"
descriptor = "inverse_distances"
lengthscale = 1.0
regularization = 1e-3
frames = 60
"""


def test_an_ensemble_and_the_baseline_without_one(tmp_path, trajectory):
    """The regularization of the ensemble is looked for; it beats one model of noisy forces."""
    written(tmp_path / "part0.npz", *trajectory)
    (tmp_path / "chain.toml").write_text(re.sub(r"\[models[^[]*", LAYERS, CONFIG))
    for step in ("map", "fit"):
        assert run(tmp_path / "chain.toml", "--only", step) == 0
    found = tmp_path / "chain"
    layers, one = (json.loads((found / f"{n}.json").read_text()) for n in ("layers", "one"))
    assert (layers["batch"], layers["batches"], layers["second"]) == (50, 5, 60)
    assert layers["regularization"] > 1e-3
    assert one["frames"] == 60
    assert layers["held_out"] == one["held_out"] == 120
    assert layers["held_out_mse"] < one["held_out_mse"]
    for name in ("layers", "one"):
        assert len(io.load(found / f"{name}.safetensors")[1]) == 2  # with its prior


def test_what_is_there_is_not_made_again(folder, capsys):
    before = (folder / "chain" / "streamed.safetensors").stat().st_mtime_ns
    assert run(folder / "chain.toml") == 0
    assert "streamed is there already" in capsys.readouterr().out
    assert (folder / "chain" / "streamed.safetensors").stat().st_mtime_ns == before


def test_results_of_other_settings_are_not_taken(folder, capsys):
    other = folder / "other.toml"
    changed = CONFIG.replace("lengthscale = 1.0", "lengthscale = 2.0")
    other.write_text('output = "chain"\n' + changed)
    for step in ((), ("--only", "simulate")):
        assert run(other, *step) == 2
        text = capsys.readouterr().err
        for words in ("streamed", "lengthscale was 1.0, is now 2.0", "--fresh"):
            assert words in text


def test_steps_need_what_comes_before_them(folder, capsys):
    other = folder / "late.toml"
    other.write_text(CONFIG)
    assert run(other, "--only", "fit") == 2
    text = capsys.readouterr().err
    assert "beads.npz: not there yet" in text
    assert "--only map" in text


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("inducing = 12", "induced = 12", "unknown [models.streamed]: option 'induced'"),
        ("atoms = [0, 1, 2, 3]", "atoms = [0, 1, 'C']", "[map] atoms must be a list of integers"),
        ("atoms = [0, 1, 2, 3]", "atoms = [0, 1, 2, 9]", "atoms are counted from 0 to 4"),
        ('kind = "inducing"', 'kind = "forest"', "one of two_layers, single, inducing, network"),
        ("temperature = 300.0", "temperature = 3000.0", "virial"),
        ('path = "part*.npz"', 'path = "bare.npz"', "no forces"),
        ('path = "part*.npz"', 'path = "none*.npz"', "no file matches"),
        ('path = "part*.npz"', 'path = "kcal.npz"', "they look like kcal/mol/Å"),
        ('path = "part*.npz"', 'path = "run.trr"', "[data] topology"),
        ("[map]", 'weights_key = "w"\n[map]', "no weights 'w'"),
        ("[[0, 1], [1, 2], [2, 3]]", "[[0, 9]]", "atoms are counted from 0 to 3"),
        ("[0, 180]", "[0, 180, 3]", "[compare] states right must be a list of intervals"),
    ],
)  # fmt: skip
def test_mistakes_are_named(tmp_path, trajectory, capsys, old, new, words):
    at, forces = trajectory
    written(tmp_path / "part0.npz", at[:200], forces[:200])
    written(tmp_path / "bare.npz", at[:200], None, E=np.zeros(200))
    written(tmp_path / "kcal.npz", at[:200], forces[:200] / units.KCAL_PER_MOL)
    (tmp_path / "run.toml").write_text(CONFIG.replace(old, new, 1))
    assert run(tmp_path / "run.toml") == 2
    assert words in capsys.readouterr().err


def test_options_and_template_are_those_of_the_code(tmp_path, capsys):
    assert run("--options") == 0
    text = capsys.readouterr().out
    for words in ('[models.NAME] kind = "inducing"', "weights_key  (text)", "lists of integers"):
        assert words in text
    assert run("--template") == 0
    (tmp_path / "run.toml").write_text(capsys.readouterr().out)
    config = read_config(tmp_path / "run.toml")
    assert [each.kind for each in config.models.values()] == ["two_layers", "single", "network"]
    assert run() == 2
    assert "--template" in capsys.readouterr().err
