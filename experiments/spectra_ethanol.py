"""Power spectrum of ethanol at 300 K from a trained network, beside its harmonic frequencies.

    python experiments/spectra_ethanol.py MODEL.safetensors [--replicas 4] [--picoseconds 20]

MODEL is a network of ethanol as ``experiments/networks.py`` writes it. In float64 it is relaxed
from the frame of lowest energy, and its normal modes computed; ``vibrations_ethanol.json`` holds
those of PBE at the same conformer. In float32 replicas start from the minimum, are brought to 300 K
by 5 ps of Langevin dynamics, lose the motion of the whole, and run at constant energy. The
spectrum is that of the mass-weighted velocity autocorrelation; anharmonicity moves its peaks away
from the harmonic frequencies, above all those of bonds to hydrogen. The record goes to
``spectra_MODEL.json``, the figure to ``spectra_MODEL.png``.
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

import numpy as np
from vibrations_ethanol import EVERY, TIMESTEP, minimum

import jaxff
from jaxff import bind, dynamics, report
from jaxff.dynamics.velocities import remove_rotation, remove_translation
from jaxff.system import stack
from jaxff.vibrations import Spectrum, density_of_states, find_peaks, modes_of, undo_verlet

KELVIN, FRICTION, WARM_UP, RESOLUTION = 300.0, 0.01, 10_000, 10.0  # K, 1/fs, steps, cm⁻¹
HERE = Path(__file__).resolve()


def warmed(energy_fn, system, replicas):
    """Replicas at 300 K without motion of the whole: a stack and its velocities."""
    run = dynamics.run(
        energy_fn, system, ensemble=dynamics.langevin(TIMESTEP, KELVIN, FRICTION), steps=WARM_UP,
        key=jax.random.key(0), replicas=replicas, every=1000, keep_frames=False,
    )  # fmt: skip
    last = run.restart
    velocities = [
        remove_rotation(x, remove_translation(v, run.masses), run.masses)
        for x, v in zip(last.positions, last.velocities, strict=True)
    ]
    systems = stack([system.replace(positions=x) for x in last.positions])
    return systems, np.asarray(velocities)


def nearest(wavenumbers, peaks):
    """The peak nearest to each harmonic frequency, cm⁻¹."""
    return peaks[np.abs(np.subtract.outer(wavenumbers, peaks)).argmin(axis=1)]


def engine():
    """Harmonic frequencies of PBE, from the record of ``vibrations_ethanol.py``."""
    peers = json.loads(HERE.with_name("vibrations_ethanol.json").read_text())["peers"]
    return peers[0]["method"], np.array(peers[0]["wavenumbers_per_cm"])


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", default=os.environ.get("JAXFF_DATA", "../shared/data"))
    parser.add_argument("--replicas", type=int, default=4)
    parser.add_argument("--picoseconds", type=float, default=20.0)
    options = parser.parse_args()
    begin = time.process_time()
    exact = bind(*jaxff.io.load(options.model, dtype="float64"))
    frame, relaxed = minimum(exact, options.data)
    print(relaxed, flush=True)
    modes = modes_of(exact, relaxed.system)
    print(np.round(modes.frequencies, 1), modes.rigid_frequencies, flush=True)
    method, reference = engine()
    difference = modes.frequencies - reference
    energy_fn = bind(*jaxff.io.load(options.model))
    systems, velocities = warmed(energy_fn, relaxed.system, options.replicas)
    run = dynamics.run(
        energy_fn, systems, ensemble=dynamics.nve(TIMESTEP), velocities=velocities, every=EVERY,
        steps=round(1000 * options.picoseconds / TIMESTEP), chunk=8000,
    )  # fmt: skip
    seen = density_of_states(
        run.velocities, run.masses, EVERY * TIMESTEP, resolution=RESOLUTION, modes=len(modes)
    )
    seen = Spectrum(undo_verlet(seen.wavenumbers, TIMESTEP), seen.density, seen.resolution)
    peaks = find_peaks(seen, prominence=0.01)
    drifts = [
        dynamics.energy_drift(run.times, energy, len(run.masses)).slope
        for energy in run.total_energy
    ]
    near = nearest(modes.frequencies, peaks.wavenumbers)
    record = {
        "model": options.model.name, "start_frame": frame, "relaxation": str(relaxed),
        "harmonic_per_cm": modes.frequencies.tolist(),
        "translations_and_rotations_per_cm": modes.rigid_frequencies.tolist(),
        "engine": method, "harmonic_of_engine_per_cm": reference.tolist(),
        "harmonic_minus_engine_per_cm": difference.tolist(),
        "mean_absolute_deviation_from_engine_per_cm": float(np.abs(difference).mean()),
        "largest_deviation_from_engine_per_cm": float(np.abs(difference).max()),
        "replicas": options.replicas, "picoseconds": options.picoseconds,
        "mean_temperatures_k": np.mean(run.temperature, axis=1).tolist(),
        "drifts_mev_per_atom_ps": drifts, "resolution_per_cm": RESOLUTION,
        "peaks_per_cm": peaks.wavenumbers.tolist(), "peak_heights": peaks.heights.tolist(),
        "nearest_peak_minus_harmonic_per_cm": (near - modes.frequencies).tolist(),
        "cpu_s": time.process_time() - begin,
        "date": date.today().isoformat(), "load": os.getloadavg()[0],
        "machine": f"{platform.machine()}, 1 of {os.cpu_count()} cores",
        "versions": {p: version(p) for p in ("jaxff", "jax", "numpy")},
    }  # fmt: skip
    file = HERE.with_name(f"spectra_{options.model.stem}.json")
    file.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record), flush=True)
    figure = report.spectrum(
        {"300 K": seen}, modes.frequencies, f"Ethanol, {options.model.stem.replace('_', ' ')}",
        reference=reference, names=("its normal modes", method.partition(",")[0]),
    )  # fmt: skip
    report.save(file.with_suffix(".png"), figure, dpi=110)


if __name__ == "__main__":
    main()
