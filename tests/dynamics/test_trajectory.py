import csv
import io

import ase.io
import ase.units
import jax
import numpy as np
import pytest

from jaxff.dynamics import Writer, nve, progress_bar, read_restart, run

SETTINGS = {"ensemble": nve(0.5), "every": 7, "chunk": 30}


def simulate(energy_fn, system, steps=100, **more):
    if "restart" not in more:
        more.update(temperature=300.0, key=jax.random.key(3))
    return run(energy_fn, system, steps=steps, **SETTINGS, **more)


def check_frames(path, result, forces):
    frames = ase.io.read(path, index=":")
    assert len(frames) == len(result)
    for index, atoms in enumerate(frames):
        np.testing.assert_array_equal(atoms.numbers, result.numbers)
        np.testing.assert_allclose(atoms.positions, result.positions[index], atol=6e-9)
        velocities = atoms.get_momenta() / result.masses[:, None] * ase.units.fs
        np.testing.assert_allclose(velocities, result.velocities[index], atol=1e-9)
        assert atoms.get_potential_energy() == result.potential_energy[index]
        assert atoms.info["step"] == result.steps[index]
        assert atoms.info["time_fs"] == result.times[index]
        assert atoms.info["temperature_K"] == result.temperature[index]
        if forces:
            np.testing.assert_allclose(atoms.get_forces(), result.forces[index], atol=6e-9)
    return frames


def check_log(path, result):
    with path.open() as file:
        rows = list(csv.DictReader(file))
    columns = {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}
    np.testing.assert_array_equal(columns["step"], result.steps)
    np.testing.assert_array_equal(columns["time_fs"], result.times)
    np.testing.assert_array_equal(columns["potential_energy_eV"], result.potential_energy)
    np.testing.assert_array_equal(columns["kinetic_energy_eV"], result.kinetic_energy)
    np.testing.assert_array_equal(columns["total_energy_eV"], result.total_energy)
    np.testing.assert_array_equal(columns["temperature_K"], result.temperature)


@pytest.mark.parametrize("forces", [False, True])
def test_files_read_back_the_same_numbers(molecule, morse, tmp_path, forces):
    with Writer(tmp_path / "run", forces=forces) as writer:
        result = simulate(morse(), molecule, writer=writer)
    frames = check_frames(tmp_path / "run" / "trajectory.xyz", result, forces)
    assert not any(atoms.pbc.any() for atoms in frames)
    check_log(tmp_path / "run" / "log.csv", result)


def test_cell_and_partial_periodicity(argon, lennard_jones, tmp_path):
    slab = argon.replace(pbc=jax.numpy.array([True, True, False]))
    with Writer(tmp_path) as writer:
        result = simulate(lennard_jones, slab, steps=8, writer=writer)
    atoms = check_frames(tmp_path / "trajectory.xyz", result, False)[-1]
    np.testing.assert_array_equal(atoms.cell[:], argon.cell)
    assert atoms.pbc.tolist() == [True, True, False]


def test_every_chunk_is_on_disk_when_the_next_begins(molecule, morse, tmp_path):
    seen = []

    def look(chunk):
        frames = ase.io.read(tmp_path / "trajectory.xyz", index=":")
        assert frames[-1].info["step"] == chunk.steps[-1]
        seen.append((len(frames), read_restart(tmp_path / "restart.npz").step))

    writer = Writer(tmp_path)
    simulate(morse(), molecule, writer=writer, progress=look)
    writer.close()
    assert seen == [(1, 0), (5, 28), (9, 56), (13, 84), (16, 100)]


def test_interrupted_run_resumes_its_files(molecule, morse, tmp_path):
    whole = simulate(morse(), molecule, steps=60)

    class Killed(Exception):
        pass

    def kill(chunk):
        if chunk.restart.step >= 28:
            raise Killed

    with pytest.raises(Killed), Writer(tmp_path) as writer:
        simulate(morse(), molecule, steps=60, writer=writer, progress=kill)
    # What a crash in the middle of the next chunk's write may leave behind.
    for name in ("trajectory.xyz", "log.csv"):
        with (tmp_path / name).open("a") as file:
            file.write("5\nhalf a fra")
    restart = read_restart(tmp_path / "restart.npz")
    assert restart.step == 28
    with Writer(tmp_path, resume=True) as writer:
        simulate(morse(), molecule, steps=60 - restart.step, restart=restart, writer=writer)
    check_frames(tmp_path / "trajectory.xyz", whole, False)
    check_log(tmp_path / "log.csv", whole)


def test_restart_file_is_exact(molecule, morse, tmp_path):
    with Writer(tmp_path) as writer:
        result = simulate(morse(), molecule, steps=10, writer=writer)
    read = read_restart(tmp_path / "restart.npz")
    assert (read.step, read.ensemble, read.timestep) == (10, "nve", 0.5)
    np.testing.assert_array_equal(read.positions, result.positions[-1])
    np.testing.assert_allclose(read.velocities, result.velocities[-1], rtol=1e-14)
    for ours, theirs in zip(read.leaves, result.restart.leaves, strict=True):
        np.testing.assert_array_equal(ours, theirs)
        assert ours.dtype == theirs.dtype


def test_nothing_is_overwritten(tmp_path, dimer, harmonic):
    Writer(tmp_path).close()  # what never began leaves nothing behind
    rest = {"ensemble": nve(0.5), "velocities": np.zeros((2, 3)), "steps": 1}
    with pytest.raises(ValueError, match="steps"), Writer(tmp_path) as writer:
        run(harmonic, dimer, writer=writer, **{**rest, "steps": -1})
    with Writer(tmp_path) as writer:
        run(harmonic, dimer, writer=writer, **rest)
    with pytest.raises(FileExistsError, match="resume"):
        Writer(tmp_path)
    with pytest.raises(FileNotFoundError):
        Writer(tmp_path / "empty", resume=True)


@pytest.mark.parametrize("content", ["truncated", "pickle", "text", "other"])
def test_bad_restart_files_are_named(tmp_path, molecule, morse, content):
    path = tmp_path / "restart.npz"
    with Writer(tmp_path / "good") as writer:
        simulate(morse(), molecule, steps=1, writer=writer)
    good = (tmp_path / "good" / "restart.npz").read_bytes()
    if content == "truncated":
        path.write_bytes(good[: len(good) // 2])
    elif content == "pickle":
        np.savez(path, step=np.array([{"a": 1}], dtype=object))
    elif content == "text":
        path.write_text("no archive")
    else:
        np.savez(path, step=1)
    with pytest.raises(ValueError, match=r"restart\.npz is not a restart file"):
        read_restart(path)


@pytest.mark.parametrize("replicas", [None, 2])
def test_progress_bar_counts_all_steps(molecule, morse, replicas):
    stream = io.StringIO()
    bar = progress_bar(100, file=stream, mininterval=0)
    done = simulate(morse(), molecule, progress=bar, replicas=replicas)
    text = stream.getvalue()
    assert "100/100" in text
    assert "ns/day=" in text
    assert " K" in text
    stream = io.StringIO()
    bar = progress_bar(100, start=100, file=stream, mininterval=0)
    run(
        morse(), molecule, ensemble=nve(0.5), steps=100, chunk=20, restart=done.restart,
        progress=bar, replicas=replicas,
    )  # fmt: skip
    assert "20.0/100" in stream.getvalue()
    assert "100/100" in stream.getvalue()
