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
    assert abs(made["equipartition"] - 1.0) < 4 * made["equipartition_error"] < 0.5
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


def test_a_trajectory_that_has_changed_is_not_taken_for_the_old_one(folder, trajectory, capsys):
    at, forces = trajectory
    written(folder / "part2.npz", at[:50], forces[:50])
    try:
        for step in ((), ("--only", "fit")):
            assert run(folder / "chain.toml", *step) == 2
            text = capsys.readouterr().err
            assert "map.json: made with other settings: files was" in text
    finally:
        (folder / "part2.npz").unlink()
    assert run(folder / "chain.toml", "--only", "fit") == 0


def test_results_do_not_go_where_the_trajectory_is(folder, capsys):
    other = folder / "here.toml"
    other.write_text(f'output = "."\n{CONFIG}')
    before = (folder / "part0.npz").read_bytes()
    assert run(other) == 2
    assert "name another output" in capsys.readouterr().err
    assert (folder / "part0.npz").read_bytes() == before


def test_names_of_variables_are_no_settings_of_models(folder):
    renamed = folder / "renamed.toml"
    renamed.write_text('output = "chain"\n' + CONFIG.replace('names = ["φ"]', 'names = ["turn"]'))
    assert run(renamed, "--only", "fit") == 0


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
        ("temperature = 300.0", "temperature = 3000.0", "equipartition"),
        ('path = "part*.npz"', 'path = "bare.npz"', "no forces"),
        ('path = "part*.npz"', 'path = "none*.npz"', "no file matches"),
        ('path = "part*.npz"', 'path = "kcal.npz"', "they look like kcal/mol/Å"),
        ('path = "part*.npz"', 'path = "run.trr"', "[data] topology"),
        ("[map]", 'weights_key = "w"\n[map]', "no weights 'w'"),
        ("[[0, 1], [1, 2], [2, 3]]", "[[0, 9]]", "[prior] bonds: beads are counted from 0"),
        ("[[0, 1], [1, 2], [2, 3]]", "[[1, 1]]", "[prior] bonds: expected 2 different beads"),
        ("[[0, 1], [1, 2], [2, 3]]", "[[0, 1, 2]]", "[prior] bonds: expected 2 different beads"),
        ("[0, 180]", "[0, 180, 3]", "[compare] states right must be a list of intervals"),
        ("[0, 180]", "[0, 0]", "[compare] states: state 'right' has the interval [0, 0]"),
        ("[[0, 180]]", "[[0, 180], [0, 90]]", "state 'right' needs 1 intervals, got 2"),
        ("bins = 12", "bins = 0", "[compare] bins must be at least 1"),
        ("bins = 12", "below = nan", "below positive"),
        ("bins = 12", "center = [0, 1, 2, 7]", "[compare] center: beads are counted from 0 to 3"),
        ("bins = 12", "center = [0, 1, 2, -1]", "[compare] center: expected 4 different beads"),
        ("replicas = 20", "replicas = 500", "[simulate] replicas: 500 start from frames"),
        ("timestep = 0.03", "timestep = -1.0", "[simulate] timestep must be positive"),
        ("timestep = 0.03", 'ensemble = "langevin"\nfriction = 0.1', "langevin needs a timestep"),
        ("every = 20", "every = 9999", "2000 steps hold no frame"),
        ("cells = 36", "cells = 0", "[variables] cells must be at least 1"),
        ("lengthscale = 1.0", "lengthscale = 0.0", "lengthscale must be positive"),
        ("lengthscale = 1.0", "regularization = -1.0", "regularization must be positive"),
        ("temperature = 300.0", "temperature = inf", "temperature must be positive"),
        ("temperature = 300.0", "temperature = 300.0\nseed = -1", "seed an integer from 0 on"),
    ],
)  # fmt: skip
def test_mistakes_are_named(tmp_path, trajectory, capsys, old, new, words):
    at, forces = trajectory
    written(tmp_path / "part0.npz", at[:200], forces[:200])
    written(tmp_path / "bare.npz", at[:200], None, E=np.zeros(200))
    (tmp_path / "run.trr").touch()
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
