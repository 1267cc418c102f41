"""Kill a run twenty times, at random moments, and let it go on: nothing may be lost or unreadable.

    python experiments/kill_restart.py [--kills 20] [--formats xyz hdf5]

A process runs Langevin dynamics of Lennard-Jones argon with neighbour lists, in chunks so short
that it spends much of its time in writing files. It is killed (SIGKILL) at a random moment, its
files are read as they lie, and another process continues from them. Before it hands a chunk to the
writer it notes the step in a file, so that it is known what the kill has cost. In the end the files
are compared with those of a run that was never interrupted. The record goes to
``kill_restart.json``.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)

import ase.io
import numpy as np

from jaxff import System, bind, dynamics, physics

EVERY, CHUNK = 5, 50
RECORD = Path(__file__).with_suffix(".json")


def argon():
    grid = np.stack(np.meshgrid(*[np.arange(3)] * 3, indexing="ij"), -1).reshape(-1, 1, 3)
    basis = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    length = 3 * 5.6
    return System((grid + basis).reshape(-1, 3) / 3 * length, np.full(108, 18), length * np.eye(3))


def work(folder, format, last):
    """Begin the run or continue it, up to step ``last``."""
    potential = physics.lennard_jones("Ar", 7.0, truncation="switched")
    energy_fn = bind(potential, potential.init(epsilon=0.0104, sigma=3.4))
    restart = None
    if (folder / "restart.npz").exists():
        restart = dynamics.read_restart(folder / "restart.npz")
    note = os.open(folder.with_suffix(".note"), os.O_CREAT | os.O_WRONLY)
    with dynamics.Writer(folder, format=format, resume=restart is not None) as writer:

        def write(chunk):
            os.pwrite(note, b"%012d" % chunk.restart.step, 0)
            writer(chunk)

        dynamics.run(
            energy_fn, argon(), ensemble=dynamics.langevin(4.0, 90.0, 0.01), restart=restart,
            steps=last - (0 if restart is None else restart.step), key=jax.random.key(1),
            every=EVERY, chunk=CHUNK, keep_frames=False, writer=write,
        )  # fmt: skip


def frames_of(folder, format):
    """Steps and positions of all frames, as a reader finds them now; and whether the last is torn.

    A kill within one write may leave an extended XYZ file with part of a frame at its end, which
    ASE refuses: then the frames before it are read.
    """
    if format == "hdf5":
        data = dynamics.read_hdf5(folder / "trajectory.h5")
        return data["steps"], data["positions"], False
    path, torn = folder / "trajectory.xyz", False
    try:
        frames = ase.io.read(path, ":")
    except (OSError, ValueError):  # ASE's XYZError among them
        lines, torn = path.read_text().splitlines(keepends=True), True
        whole = path.with_name("whole.xyz")
        whole.write_text("".join(lines[: (len(lines) - 1) // 110 * 110]))
        frames = ase.io.read(whole, ":")
    positions = np.array([frame.positions for frame in frames])
    return np.array([frame.info["step"] for frame in frames]), positions, torn


def child(folder, format, last):
    command = [sys.executable, __file__, "--work", str(folder), format, str(last)]
    # Programs are compiled once for all the processes.
    cache = {
        "JAX_COMPILATION_CACHE_DIR": str(folder.parent / "cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    return subprocess.Popen(command, env={**os.environ, **cache})


def check(folder, format):
    """What a kill has left."""
    restart = dynamics.read_restart(folder / "restart.npz")
    steps, positions, torn = frames_of(folder, format)
    computed = int(folder.with_suffix(".note").read_text())
    log = len((folder / "log.csv").read_text().splitlines()) - 1
    return {
        "restart_step": restart.step, "computed_step": computed,
        "lost_steps": computed - restart.step, "frames": len(steps), "log_lines": log,
        "torn_last_frame": torn,
        "frames_beyond_restart": len(steps) - (restart.step // EVERY + 1),
        "sound": bool(
            np.array_equal(steps, EVERY * np.arange(len(steps)))
            and np.isfinite(positions).all()
            and len(steps) >= restart.step // EVERY + 1
            and 0 <= computed - restart.step <= CHUNK
        ),
    }  # fmt: skip


def kill_and_continue(folder, format, kills, rng):
    found, begin = [], 0
    for _ in range(kills):
        process = child(folder, format, 10**8)
        path = folder / "restart.npz"
        while not path.exists() or dynamics.read_restart(path).step <= begin:
            if process.poll() is not None:
                raise RuntimeError("the run ended by itself")
            time.sleep(0.005)
        time.sleep(rng.uniform(0.0, 0.5))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        found.append(check(folder, format))
        begin = found[-1]["restart_step"]
        print(format, found[-1], flush=True)
    last = begin + 10 * CHUNK
    unbroken = folder.with_name(f"unbroken-{format}")
    for target in (folder, unbroken):
        if child(target, format, last).wait():
            raise RuntimeError("the last run failed")
    (steps, positions, _), (others, expected, _) = (
        frames_of(f, format) for f in (folder, unbroken)
    )
    names = ["log.csv"] + ["trajectory.xyz"] * (format == "xyz")
    states = [dynamics.read_restart(f / "restart.npz").leaves for f in (folder, unbroken)]
    return {
        "kills": len(found), "all_sound": all(f["sound"] for f in found),
        "largest_loss_steps": max(f["lost_steps"] for f in found),
        "kills_that_lost_a_chunk": sum(f["lost_steps"] > 0 for f in found),
        "kills_with_frames_beyond_restart": sum(f["frames_beyond_restart"] > 0 for f in found),
        "kills_with_a_torn_frame_beyond_restart": sum(f["torn_last_frame"] for f in found),
        "steps": int(steps[-1]),
        "equal_to_unbroken_run": bool(
            np.array_equal(steps, others)
            and np.array_equal(positions, expected)
            and all((folder / n).read_bytes() == (unbroken / n).read_bytes() for n in names)
            and all(np.array_equal(a, b) for a, b in zip(*states, strict=True))
        ),
        "each": found,
    }  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--formats", nargs="+", choices=("xyz", "hdf5"), default=["xyz", "hdf5"])
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        folder, format, last = options.work
        work(Path(folder), format, int(last))
        return
    record = {
        "date": date.today().isoformat(), "atoms": 108, "chunk": CHUNK, "every": EVERY,
        "versions": {p: version(p) for p in ("jaxff", "jax", "h5py")},
    }  # fmt: skip
    rng = np.random.default_rng(0)
    for format in options.formats:
        with tempfile.TemporaryDirectory() as parent:
            target = Path(parent, format)
            record[format] = kill_and_continue(target, format, options.kills, rng)
    RECORD.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
