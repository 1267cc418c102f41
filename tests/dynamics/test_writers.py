"""Files of long runs: HDF5, replicas, moving cells, and what a killed process leaves."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import ase.io
import jax
import numpy as np
import pytest

from jaxff.dynamics import Writer, csvr, npt, nve, read_hdf5, read_log, read_restart, run
from jaxff.dynamics.writers import _write

KEY = jax.random.key(2)
SETTINGS = {"ensemble": nve(0.5), "every": 7, "chunk": 30}


def simulate(energy_fn, system, **more):
    start = {} if "restart" in more else {"temperature": 300.0, "key": KEY}
    return run(energy_fn, system, **{**SETTINGS, "steps": 100, **start, **more})


PER_FRAME = ("positions", "velocities", "potential_energy", "conserved_energy", "temperature")


@pytest.mark.parametrize("forces", [False, True])
def test_hdf5_holds_every_digit(molecule, morse, tmp_path, forces):
    with Writer(tmp_path, format="hdf5", forces=forces) as writer:
        result = simulate(morse(), molecule, writer=writer)
    data = read_hdf5(tmp_path / "trajectory.h5")
    for name in (*PER_FRAME, "steps", "times", "numbers", "masses"):
        np.testing.assert_array_equal(data[name], getattr(result, name))
    assert ("forces" in data) is forces
    assert data["ensemble"] == "nve"
    assert (data["degrees_of_freedom"], data["timestep_fs"]) == (9, 0.5)
    assert not (tmp_path / "trajectory.xyz").exists()


@pytest.mark.parametrize("format", ["xyz", "hdf5"])
def test_replicas_on_disk(molecule, morse, tmp_path, format):
    settings = {"replicas": 2, "ensemble": csvr(0.5, 300.0, 20.0)}
    with Writer(tmp_path, format=format, replicas=2) as writer:
        result = simulate(morse(), molecule, writer=writer, **settings)
    for index in range(2):
        one = result.replica(index)
        log = read_log(tmp_path / f"log-00{index}.csv")
        np.testing.assert_array_equal(log["conserved_energy_eV"], one.conserved_energy)
        np.testing.assert_array_equal(log["half_step_temperature_K"], one.half_step_temperature)
        if format == "xyz":
            frames = ase.io.read(tmp_path / f"trajectory-00{index}.xyz", index=":")
            assert len(frames) == len(one)
            np.testing.assert_allclose(frames[-1].positions, one.positions[-1], atol=6e-9)
    if format == "hdf5":
        data = read_hdf5(tmp_path / "trajectory.h5")
        np.testing.assert_array_equal(data["positions"], result.positions.swapaxes(0, 1))
    restart = read_restart(tmp_path / "restart.npz")
    assert restart.positions.shape == (2, 5, 3)
    with pytest.raises(ValueError, match="number of replicas"):
        Writer(tmp_path, format=format, replicas=3, resume=True)


@pytest.mark.slow
@pytest.mark.parametrize("format", ["xyz", "hdf5"])
def test_moving_cell_on_disk(argon, lennard_jones, tmp_path, format):
    ensemble = npt(4.0, 100.0, 1e-3, 0.01, 200.0)
    with Writer(tmp_path, format=format) as writer:
        result = simulate(lennard_jones, argon, ensemble=ensemble, writer=writer, steps=30)
    log = read_log(tmp_path / "log.csv")
    np.testing.assert_array_equal(log["volume_A3"], result.volume)
    np.testing.assert_array_equal(log["pressure_eV_A3"], result.pressure)
    if format == "xyz":
        cells = [a.cell[:] for a in ase.io.read(tmp_path / "trajectory.xyz", index=":")]
        np.testing.assert_array_equal(cells, result.cell)
    else:
        np.testing.assert_array_equal(read_hdf5(tmp_path / "trajectory.h5")["cell"], result.cell)
    assert np.ptp(result.volume) > 1.0


@pytest.mark.slow
def test_fixed_cell_and_shadow_energy(argon, lennard_jones, tmp_path):
    with Writer(tmp_path, format="hdf5") as writer:
        result = simulate(lennard_jones, argon, writer=writer, steps=14, shadow=True)
    data = read_hdf5(tmp_path / "trajectory.h5")
    np.testing.assert_array_equal(data["cell"], argon.cell)
    np.testing.assert_array_equal(data["shadow_energy"], result.shadow_energy)
    assert read_log(tmp_path / "log.csv")["shadow_energy_eV"].tolist() == data[
        "shadow_energy"].tolist()  # fmt: skip


@pytest.mark.parametrize("format", ["xyz", "hdf5"])
def test_resumed_files_equal_those_of_an_unbroken_run(molecule, morse, tmp_path, format):
    with Writer(tmp_path / "whole", format=format) as writer:
        simulate(morse(), molecule, writer=writer, steps=84)
    with Writer(tmp_path / "parts", format=format) as writer:
        simulate(morse(), molecule, writer=writer, steps=28)
    restart = read_restart(tmp_path / "parts" / "restart.npz")
    with Writer(tmp_path / "parts", format=format, resume=True) as writer:
        # Frames after the restart file, as a process killed between two writes leaves them.
        simulate(morse(), molecule, writer=lambda chunk: None, steps=28, restart=restart)
        simulate(morse(), molecule, writer=writer, steps=56, restart=restart)
    for name in ("log.csv", *(["trajectory.xyz"] if format == "xyz" else [])):
        whole, parts = ((tmp_path / f / name).read_bytes() for f in ("whole", "parts"))
        assert whole == parts
    if format == "hdf5":
        whole, parts = (read_hdf5(tmp_path / f / "trajectory.h5") for f in ("whole", "parts"))
        for name in PER_FRAME:
            np.testing.assert_array_equal(whole[name], parts[name])


SCRIPT = """
import sys
import jax
jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp
import numpy as np
from jaxff import System
from jaxff.dynamics import Writer, langevin, run

def energy(system, neighbors=None):
    return jnp.sum(system.positions ** 2)

system = System(np.zeros((4, 3)), np.full(4, 6))
with Writer(sys.argv[1], format=sys.argv[2]) as writer:
    run(energy, system, ensemble=langevin(0.5, 300.0, 0.01), steps=10**8, key=jax.random.key(0),
        every=2, chunk=200, keep_frames=False, writer=writer)
"""


@pytest.mark.parametrize("format", ["xyz", "hdf5"])
def test_killed_runs_leave_readable_files(tmp_path, format):
    folder = tmp_path / "run"
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(folder), format])
    deadline = time.monotonic() + 120
    while not (folder / "restart.npz").exists() or read_restart(folder / "restart.npz").step < 2000:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    check_files(folder, format)


def check_files(folder: Path, format: str) -> None:
    step = read_restart(folder / "restart.npz").step
    if format == "hdf5":
        data = read_hdf5(folder / "trajectory.h5")
        steps = data["steps"]
        assert all(len(data[name]) == len(steps) for name in PER_FRAME)
        assert np.isfinite(data["positions"]).all()
    else:
        size = 0
        with (folder / "trajectory.xyz").open() as file:
            size = sum(1 for _ in file)
        steps = 2 * np.arange(size // 6)
    # Nothing that the restart file knows is missing, and at most the next chunk is beyond it.
    assert step <= steps[-1] <= step + 200
    np.testing.assert_array_equal(steps, 2 * np.arange(len(steps)))
    with Writer(folder, format=format, resume=True):
        pass
    if format == "hdf5":
        assert read_hdf5(folder / "trajectory.h5")["steps"][-1] == step
    assert read_log(folder / "log.csv")["step"][-1] == step


def test_bad_files_are_named(tmp_path):
    path = tmp_path / "trajectory.h5"
    path.write_text("no HDF5")
    with pytest.raises(ValueError, match=r"trajectory\.h5 is not a trajectory"):
        read_hdf5(path)
    (tmp_path / "log.csv").write_text("step,time_fs\n1,two\n")
    with pytest.raises(ValueError, match=r"log\.csv is not the log"):
        read_log(tmp_path / "log.csv")
    with pytest.raises(ValueError, match="'xyz' or 'hdf5'"):
        Writer(tmp_path / "other", format="dcd")
    with pytest.raises(FileExistsError, match="resume"):
        Writer(tmp_path, format="hdf5")


def test_a_write_that_is_cut_short_is_finished_or_told(tmp_path):
    class Slow:
        """Takes three bytes at a time, and at most ``room``."""

        name = "trajectory.xyz"

        def __init__(self, room):
            self.room, self.taken = room, b""

        def write(self, data):
            if len(self.taken) >= self.room:
                raise OSError(28, "No space left on device")
            self.taken += bytes(data[:3])
            return len(bytes(data[:3]))

    enough, full = Slow(100), Slow(6)
    _write(enough, "eleven byte")
    assert enough.taken == b"eleven byte"
    with pytest.raises(OSError, match=r"trajectory\.xyz cannot be written \(No space left"):
        _write(full, "eleven byte")


def test_files_shorter_than_the_restart_says_are_refused(molecule, morse, tmp_path):
    with Writer(tmp_path) as writer:
        simulate(morse(), molecule, writer=writer, steps=28)
    path = tmp_path / "trajectory.xyz"
    size = path.stat().st_size
    os.truncate(path, size - 10)
    with pytest.raises(ValueError, match=rf"has {size - 10} bytes, its restart file counts {size}"):
        Writer(tmp_path, resume=True)
    assert path.stat().st_size == size - 10


def test_hdf5_with_fewer_frames_than_the_restart_says_is_refused(molecule, morse, tmp_path):
    for name, steps in (("short", 28), ("long", 56)):
        with Writer(tmp_path / name, format="hdf5") as writer:
            simulate(morse(), molecule, writer=writer, steps=steps)
    os.replace(tmp_path / "short" / "trajectory.h5", tmp_path / "long" / "trajectory.h5")
    with pytest.raises(ValueError, match="has 5 frames, its restart file counts 9"):
        Writer(tmp_path / "long", format="hdf5", resume=True)
