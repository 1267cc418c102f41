"""Path integrals of a molecule or crystal, with more and more beads, and by i-PI.

    python experiments/path_integrals.py MODEL START.xyz [--beads 1 2 4 8 16 32] [--steps 40000]
        [--ipi PATH/OF/i-pi --ipi-beads 8 --ipi-steps 4000] [--segments 40] [--engine 20]

MODEL is a model file of jaxff (.safetensors) or sGDML (.npz), START a geometry that ASE reads. Each
number of beads runs at ``--temperature``, the first fifth does not count; energies are means with
standard errors from the correlation time, those of a crystal are of the whole cell. Radial
distributions are of all beads, with the least and the most of them. i-PI (3.3, ``pip install ipi``,
an interpreter of its own is fine) runs its PILE-L thermostat with the forces of the same model
through a socket, served by :class:`jaxff.interfaces.ase.JaxffCalculator` and ASE's
``SocketClient``. ``--segments`` adds vibrational spectra by ring-polymer dynamics (constant energy,
from that many starts of the thermostat) with one bead and with the most beads. ``--engine``
computes that many beads of each run again by GFN1-xTB (``tblite``): models that learnt from
classical frames at the same temperature meet geometries there that they have not seen. The record,
renewed model by model, goes to ``path_integrals.json``, the figure to ``path_integrals_MODEL.png``.
"""

import argparse
import json
import os
import platform
import subprocess
import tempfile
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

import ase.io
import numpy as np
from ase.calculators.socketio import SocketClient

import jaxff
from jaxff import System, analysis, bind, dynamics, elements, units, vibrations
from jaxff.analysis.radial import radial_distribution
from jaxff.derivatives import energy_and_forces
from jaxff.interfaces import sgdml
from jaxff.interfaces.ase import JaxffCalculator, system_of
from jaxff.report import canvas

TIMESTEP, CENTROID, EVERY = 0.5, 100.0, 8  # fs, fs, steps
REACH, BINS, COUNTED = 5.0, 500, 3000  # Å, and geometries, of radial distributions
HERE = Path(__file__).resolve()
INPUT = """<simulation verbosity='quiet'>
  <output prefix='out'>
    <properties stride='{every}' filename='log'>
      [time{{femtosecond}}, conserved{{electronvolt}}, temperature{{kelvin}},
       potential{{electronvolt}}, kinetic_cv{{electronvolt}}, kinetic_td{{electronvolt}}]
    </properties>
  </output>
  <total_steps> {steps} </total_steps>
  <prng> <seed> 1 </seed> </prng>
  <ffsocket name='jaxff' mode='unix' pbc='False'> <address> {address} </address> </ffsocket>
  <system>
    <initialize nbeads='{beads}'>
      <file mode='xyz' units='angstrom'> start.xyz </file>
      <cell mode='abcABC' units='angstrom'> [{cell}] </cell>
      <velocities mode='thermal' units='kelvin'> {kelvin} </velocities>
    </initialize>
    <forces> <force forcefield='jaxff'/> </forces>
    <ensemble> <temperature units='kelvin'> {kelvin} </temperature> </ensemble>
    <motion mode='dynamics'>
      <fixcom> False </fixcom>
      <dynamics mode='nvt'>
        <timestep units='femtosecond'> {timestep} </timestep>
        <thermostat mode='pile_l'> <tau units='femtosecond'> {centroid} </tau> </thermostat>
      </dynamics>
    </motion>
  </system>
</simulation>
"""


def settled(series):
    """Mean and standard error of what comes after the first fifth."""
    found = analysis.estimate(np.asarray(series)[len(series) // 5 :])
    return [float(found.mean), float(found.standard_error)]


def ours(energy_fn, system, beads, options):
    ensemble = dynamics.path_integral(TIMESTEP, options.temperature, centroid_time=CENTROID)
    named = {"ensemble": ensemble, "replicas": beads, "every": EVERY, "chunk": 2000}
    first = dynamics.run(
        energy_fn, system, steps=min(2000, options.steps), key=jax.random.key(beads), **named
    )  # compiles
    start = time.process_time()
    run = dynamics.run(energy_fn, system, steps=options.steps, restart=first.restart, **named)
    seconds = time.process_time() - start
    energies = analysis.quantum_energies(run, options.temperature)
    radius = analysis.radius_of_gyration(run) ** 2
    numbers = np.asarray(system.numbers)
    found = {
        "beads": beads, "picoseconds": options.steps * TIMESTEP / 1000,
        **{name: settled(values) for name, values in energies._asdict().items()},
        "temperature_k": settled(np.mean(run.half_step_temperature, axis=0)),
        "radius_of_gyration_ang": {
            str(z): float(np.sqrt(settled(radius[:, numbers == z].mean(axis=1))[0]))
            for z in np.unique(numbers)
        },
        "conserved_slope_mev_per_ps":
            float(np.polyfit(run.times, run.conserved_energy.sum(axis=0), 1)[0] * 1e6),
        "cpu_s": seconds, "cpu_us_per_bead_and_step": 1e6 * seconds / options.steps / beads,
    }  # fmt: skip
    if beads in (min(options.beads), max(options.beads)):
        found["radial_distribution"] = radial(run, system)
    if options.engine:
        found["engine"] = again(energy_fn, run, system, options.engine)
    return found


def again(energy_fn, run, system, count):
    """Errors of the model on beads at equal intervals; energies relative to their mean."""
    from ase import Atoms
    from tblite.ase import TBLite

    places = np.asarray(run.positions).reshape(-1, system.atom_count, 3)
    places = places[np.linspace(len(places) // 5, len(places) - 1, count).astype(int)]
    cells = None if system.cell is None else np.tile(system.cell, (count, 1, 1))
    energies, forces = jax.jit(lambda fn, systems: energy_and_forces(fn)(systems))(
        energy_fn, System(places, system.numbers, cells)
    )
    atoms = Atoms(np.asarray(system.numbers), cell=system.cell, pbc=system.cell is not None)
    atoms.calc, labels = TBLite(method="GFN1-xTB", verbosity=0), []
    for positions in places:
        atoms.positions = positions
        labels.append((atoms.get_potential_energy(), atoms.get_forces()))
    wanted, pulls = (np.array(each) for each in zip(*labels, strict=True))
    off = np.asarray(energies) - wanted
    return {
        "geometries": count,
        "energy_mae_mev_per_atom": 1e3 * float(np.abs(off - off.mean()).mean()) / len(atoms),
        "energy_mean_difference_ev": float(off.mean()), "energy_spread_ev": float(wanted.std()),
        "forces_rmse_mev_per_ang": 1e3 * float(np.sqrt(np.mean((forces - pulls) ** 2))),
        "forces_spread_mev_per_ang": 1e3 * float(pulls.std()),
    }  # fmt: skip


def radial(run, system):
    """Of the beads at equal intervals of the run."""
    places = np.asarray(run.positions).reshape(-1, system.atom_count, 3)
    places = places[len(places) // 5 :]
    places = places[:: max(1, len(places) // COUNTED)]
    cell = None if system.cell is None else np.asarray(system.cell)
    found = radial_distribution(
        places, np.asarray(system.numbers), cell, cutoff=REACH, bins=BINS
    )  # fmt: skip
    return {"ang": found.distances.round(4).tolist(), "values": found.values.round(5).tolist()}


def vibrations_of_rings(energy_fn, system, beads, options):
    """Highest peaks of the density of states of centroids, from runs at constant energy."""
    segments = dynamics.ring_polymers(
        energy_fn, system, timestep=TIMESTEP, temperature=options.temperature, beads=beads,
        starts=options.segments, steps=2560, thermalize=400, every=8, key=jax.random.key(beads),
    )  # fmt: skip
    velocities = np.array([analysis.centroids(segment).velocities for segment in segments])
    masses = units.masses(np.asarray(system.numbers))
    spectrum = vibrations.density_of_states(velocities, masses, 8 * TIMESTEP, resolution=40.0)
    peaks = vibrations.find_peaks(spectrum)
    return {
        "beads": beads, "starts": options.segments, "resolution_per_cm": 40.0,
        "peaks_per_cm": peaks.wavenumbers.round(1).tolist(),
        "heights": peaks.heights.round(5).tolist(),
    }  # fmt: skip


def by_ipi(energy_fn, atoms, options):
    """The same by i-PI, which asks for the forces of one bead after another."""
    with tempfile.TemporaryDirectory() as folder:
        folder, address = Path(folder), f"jaxff_{os.getpid()}"
        text = INPUT.format(
            every=EVERY, steps=options.ipi_steps, address=address, beads=options.ipi_beads,
            kelvin=options.temperature, timestep=TIMESTEP, centroid=CENTROID,
            cell=", ".join(f"{value:.12f}" for value in box(atoms)),
        )  # fmt: skip
        (folder / "input.xml").write_text(text)
        lines = [f"{s} {x:.10f} {y:.10f} {z:.10f}"
                 for s, (x, y, z) in zip(atoms.symbols, atoms.positions, strict=True)]  # fmt: skip
        (folder / "start.xyz").write_text("\n".join([str(len(atoms)), "", *lines, ""]))
        atoms = atoms.copy()
        atoms.calc = JaxffCalculator(energy_fn)
        atoms.get_forces()  # compiled before the server waits
        with (folder / "told").open("w") as told:
            server = subprocess.Popen(
                [options.ipi, "input.xml"], cwd=folder, stdout=told, stderr=subprocess.STDOUT
            )
            start = time.perf_counter()
            while not Path(f"/tmp/ipi_{address}").exists():
                if server.poll() is not None or time.perf_counter() - start > 60:
                    raise RuntimeError("i-PI did not start: " + (folder / "told").read_text())
                time.sleep(0.2)
            SocketClient(unixsocket=address).run(atoms)
            server.wait(timeout=60)
        table = np.loadtxt(folder / "out.log")
    _, conserved, kelvin, potential, virial, primitive = table.T
    return {
        "beads": options.ipi_beads, "picoseconds": options.ipi_steps * TIMESTEP / 1000,
        "potential": settled(potential), "primitive_kinetic": settled(primitive),
        "virial_kinetic": settled(virial), "temperature_k": settled(kelvin),
        "conserved_spread_mev": float(np.std(conserved) * 1000),
    }  # fmt: skip


def box(atoms):
    """Edges in Å and angles in degrees; around molecules, which have none, a large cube."""
    if not atoms.pbc.any():
        return 100.0, 100.0, 100.0, 90.0, 90.0, 90.0
    if np.abs(atoms.cell - atoms.cell.standard_form()[0]).max() > 1e-9:
        raise SystemExit("i-PI wants the first vector of the cell along x, the second in xy")
    return atoms.cell.cellpar()


def differences(one, other):
    """Of the averages, in units of their standard error."""
    return {
        name: (one[name][0] - other[name][0]) / float(np.hypot(one[name][1], other[name][1]))
        for name in ("potential", "primitive_kinetic", "virial_kinetic")
    }


def draw(found, path):
    figure = canvas.new_figure(12.5, 3.4)
    left, right, far = figure.subplots(1, 3)
    beads = [run["beads"] for run in found["runs"]]
    for name, label, color in (
        ("potential", "potential", canvas.BLUE),
        ("virial_kinetic", "kinetic (virial)", canvas.ORANGE),
        ("primitive_kinetic", "kinetic (primitive)", canvas.GREEN),
    ):
        mean, error = np.array([run[name] for run in found["runs"]]).T
        shift = found["minimum_ev"] if name == "potential" else 0.0
        left.errorbar(
            beads, mean - shift, error, marker="o", ms=4, capsize=2, label=label, color=color
        )
        if "ipi" in found:
            value, width = found["ipi"][name]
            place = 1.08 * found["ipi"]["beads"]
            left.errorbar(place, value - shift, width, marker="x", ms=6, capsize=2, color=color)
    left.set(xscale="log", xlabel="beads (crosses: i-PI)", ylabel="energy / eV")
    colors = (canvas.GREY, canvas.ORANGE, canvas.BLUE, canvas.GREEN, canvas.PURPLE)
    for element, color in zip(found["runs"][0]["radius_of_gyration_ang"], colors, strict=False):
        radii = [run["radius_of_gyration_ang"][element] for run in found["runs"]]
        symbol = elements.symbols(np.array([int(element)]))[0]
        right.plot(beads, radii, marker="o", ms=4, label=symbol, color=color)
    right.set(xscale="log", xlabel="beads", ylabel="radius of gyration / Å")
    drawn = [run for run in found["runs"] if "radial_distribution" in run]
    for run, color in zip(drawn, (canvas.GREY, canvas.BLUE), strict=False):
        curve = run["radial_distribution"]
        label = "classical" if run["beads"] == 1 else f"{run['beads']} beads"
        far.plot(curve["ang"], curve["values"], lw=1, color=color, label=label)
    far.set(xlabel="r / Å", ylabel="radial distribution", xlim=(0.8, REACH))
    far.legend(frameon=False)
    canvas.tidy(far)
    for axes in (left, right):
        axes.set_xticks(beads, [str(count) for count in beads])
        axes.minorticks_off()
        axes.legend(frameon=False)
        canvas.tidy(axes)
    canvas.save(path, figure, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("start", type=Path)
    parser.add_argument("--beads", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--steps", type=int, default=40_000)
    parser.add_argument("--temperature", type=float, default=300.0)
    parser.add_argument("--segments", type=int, default=0)
    parser.add_argument("--engine", type=int, default=0, metavar="GEOMETRIES")
    parser.add_argument("--ipi", help="executable i-pi")
    parser.add_argument("--ipi-beads", type=int, default=8)
    parser.add_argument("--ipi-steps", type=int, default=4000)
    options = parser.parse_args()
    load = sgdml.load if options.model.suffix == ".npz" else jaxff.io.load
    energy_fn = bind(*load(options.model))
    atoms = ase.io.read(options.start)
    system = system_of(atoms)
    least = dynamics.relax(energy_fn, system, max_force=1e-3)
    name = options.model.stem
    found = {
        "temperature_k": options.temperature, "timestep_fs": TIMESTEP, "minimum_ev": least.energy,
        "date": date.today().isoformat(), "load": os.getloadavg()[0],
        "machine": f"{platform.machine()}, 1 of {os.cpu_count()} cores",
        "versions": {p: version(p) for p in ("jaxff", "jax", "numpy", "ase")},
        "runs": [ours(energy_fn, least.system, beads, options) for beads in options.beads],
    }  # fmt: skip
    if options.segments:
        found["ring_polymer_spectra"] = [
            vibrations_of_rings(energy_fn, least.system, beads, options)
            for beads in (1, max(options.beads))
        ]
    if options.ipi:
        atoms.positions = np.asarray(least.system.positions)
        found["ipi"] = by_ipi(energy_fn, atoms, options)
        same = [run for run in found["runs"] if run["beads"] == options.ipi_beads]
        if same:
            found["ours_less_ipi_in_standard_errors"] = differences(same[0], found["ipi"])
    draw(found, HERE.with_name(f"path_integrals_{name}.png"))
    path = HERE.with_suffix(".json")
    record = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(record | {name: found}, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
