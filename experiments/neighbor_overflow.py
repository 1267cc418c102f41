"""A gas is compressed to half its volume in 100,000 steps: lists overflow, and what then.

    python experiments/neighbor_overflow.py [--steps 100000] [--model network|argon]

The 32 atoms are argon, on top of whose Lennard-Jones potential there is a SO3krates with random
weights, so that energies depend on every pair of the list. Pressure rises in five stages at 300 K.
Lists that have no room are made anew by the run itself. Counted are the compilations of the
program of the steps, as JAX reports them; frames are compared with lists built from scratch. The
record goes to ``neighbor_overflow.json``.
"""

import argparse
import json
import os
import platform
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["XLA_FLAGS"] = (
    "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1 "
    + os.environ.get("XLA_FLAGS", "")
)

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp
import numpy as np

from jaxff import System, add, bind, dynamics, energy_and_forces, neighbor_list, networks, physics
from jaxff.units import GIGAPASCAL

HERE = Path(__file__).resolve()
ATOMS, SIDE, CUTOFF, SKIN = 32, 17.0, 5.0, 1.0  # Å
KELVIN, TIMESTEP, FRICTION, PISTON = 300.0, 4.0, 0.005, 2000.0  # K, fs, 1/fs, fs
PRESSURES = (0.03, 0.05, 0.07, 0.09, 0.12)  # GPa
FRAMES = 100
EVENT = "/jax/core/compile/backend_compile_duration"


class Compilations:
    """Counts what JAX compiles of the steps of a run, and of everything."""

    def __init__(self):
        self.steps = self.all = 0
        jax.monitoring.register_event_duration_secs_listener(self._listen)

    def _listen(self, event, duration, **about):
        if event == EVENT:
            self.all += 1
            self.steps += "advance" in str(about.get("fun_name"))


def gas():
    """Atoms at random places at least 3.4 Å apart."""
    rng, places = np.random.default_rng(0), np.zeros((0, 3))
    while len(places) < ATOMS:
        point = rng.uniform(0, SIDE, 3)
        apart = places - point
        apart -= SIDE * np.round(apart / SIDE)
        if not len(places) or np.linalg.norm(apart, axis=1).min() > 3.4:
            places = np.vstack([places, point])
    return System(places, [18] * ATOMS, np.eye(3) * SIDE)


def model(kind, system):
    argon = physics.lennard_jones("Ar", CUTOFF, truncation="force_shifted")
    known = argon.init(epsilon=0.0104, sigma=3.405)
    if kind == "argon":
        return bind(argon, known)
    network = networks.so3krates(
        CUTOFF, features=16, layers=2, heads=4, degrees=(1, 2), radial_functions=8,
        attention_norm=10.0, layer_norm="post", max_number=18, dtype="float64",
    )  # fmt: skip
    lists = neighbor_list(network.cutoffs).allocate(system)
    weights = jax.jit(network.init)(jax.random.key(1), system, lists)
    return bind(add(argon, network), (known, jax.tree.map(lambda w: 0.5 * w, weights)))


def compressed(energy_fn, system, steps):
    """Frames of all stages, the layouts of the lists, and the compilations of the steps."""
    layouts, parts, restart = [], [], None
    counted = Compilations()

    def look(part):
        plan = json.loads(part.restart.plan)[0]
        layouts.append((plan["width"], plan["most"]))

    for pressure in PRESSURES:
        ensemble = dynamics.npt(TIMESTEP, KELVIN, pressure * GIGAPASCAL, FRICTION, PISTON)
        start = {"restart": restart} if restart else {"key": jax.random.key(0)}
        part = dynamics.run(
            energy_fn, system, ensemble=ensemble, steps=steps // len(PRESSURES),
            every=steps // FRAMES, chunk=steps // FRAMES,
            neighbors=neighbor_list(CUTOFF, skin=SKIN), progress=look, **start,
        )  # fmt: skip
        restart = part.restart
        parts.append(part)
    return parts, list(dict.fromkeys(layouts)), counted


def errors(energy_fn, system, parts):
    """Largest differences of energies and forces of frames from those with fresh lists."""
    frames = [
        (part.potential_energy[k], part.forces[k],
         system.replace(positions=jnp.asarray(part.positions[k]),
                        cell=jnp.asarray(part.frame_cell(k))))
        for part in parts for k in range(len(part))
    ]  # fmt: skip
    lists = neighbor_list(CUTOFF)
    room = max(len(lists.allocate(frame).pairs[0].others) for *_, frame in frames)
    evaluate = jax.jit(lambda f, s, n: energy_and_forces(f)(s, n))
    worst = np.zeros(2)
    for energy, force, frame in frames:
        fresh = lists.allocate(frame)
        same = type(fresh)(
            (fresh.pairs[0].resized(room),), fresh.overflow, fresh.cutoffs, fresh.skins
        )
        expected = evaluate(energy_fn, frame, same)
        found = abs(energy - expected[0]), np.abs(force - expected[1]).max()
        worst = np.maximum(worst, np.asarray(found, float))
    return {"frames": len(frames), "energy_ev": worst[0], "forces_ev_per_ang": worst[1]}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--model", choices=("network", "argon"), default="network")
    parser.add_argument("--record", type=Path, default=HERE.with_suffix(".json"))
    options = parser.parse_args()
    system = gas()
    energy_fn = model(options.model, system)
    start = time.perf_counter(), time.process_time()
    parts, layouts, counted = compressed(energy_fn, system, options.steps)
    wall, cpu = time.perf_counter() - start[0], time.process_time() - start[1]
    volumes = np.concatenate([part.volume for part in parts])
    record = {
        "model": options.model, "atoms": ATOMS, "steps": int(parts[-1].restart.step),
        "pressures_gpa": PRESSURES, "compilations_of_the_steps": counted.steps,
        "slots_per_atom": [width for width, _ in layouts],
        "room_for_pairs": [most for _, most in layouts], "first_volume_ang3": float(volumes[0]),
        "last_volume_ang3": float(volumes[-1]), "smallest_volume_ang3": float(volumes.min()),
        "largest_difference_from_fresh_lists": errors(energy_fn, system, parts),
        "wall_s": wall, "cpu_s": cpu, "date": date.today().isoformat(), "load": os.getloadavg()[0],
        "machine": f"{platform.machine()}, 1 of {os.cpu_count()} cores",
        "versions": {p: version(p) for p in ("jaxff", "jax", "numpy")},
    }  # fmt: skip
    print(json.dumps(record, indent=1))
    options.record.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
