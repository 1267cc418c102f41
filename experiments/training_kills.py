"""Kill a training twenty times while it writes checkpoints: at most the last interval is lost.

    python experiments/training_kills.py [--kills 20]

A process trains SchNet on the embedded ethanol data with a checkpoint every few steps, so that it
spends much of its time in saving. As soon as the unfinished folder of a checkpoint appears, and a
random time later, it is killed (SIGKILL); another process makes the same call again. Every process
notes, as it draws its batches, at which step it began and how far it came: the difference to the
next one's beginning is what the kill has cost. In the end the state (parameters, optimiser,
average), the best parameters and the history are compared with those of a run that was never
interrupted, bit for bit. The record goes to ``training_kills.json``.
"""

import argparse
import json
import multiprocessing
import os
import platform
import tempfile
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)

import numpy as np
import orbax.checkpoint  # noqa: F401 - imported once, for all processes

from jaxff import data, training
from jaxff.data import as_frames, batches, reference_energies
from jaxff.networks import schnet

INTERVAL, LONGEST_DELAY = 5, 0.15  # steps between checkpoints, s
RECORD = Path(__file__).with_suffix(".json")


class Noted:
    """Batches that note the first and the last step that was begun."""

    def __init__(self, batches, note):
        self.batches, self.first, self.calls = batches, None, 0
        self.note = os.open(note, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)

    def __len__(self):
        return len(self.batches)

    def epoch(self, epoch, start):
        """Batches of an epoch, each noted before it is handed out."""
        self.calls += 1
        if self.calls == 1:  # only the example for which parameters are made
            yield from self.batches.epoch(epoch, start)
        for position, batch in enumerate(self.batches.epoch(epoch, start), start):
            step = epoch * len(self) + position
            self.first = step if self.first is None else self.first
            os.pwrite(self.note, b"%012d %012d" % (self.first, step), 0)
            yield batch


def work(folder, steps):
    """Begin the training or continue it, up to a number of steps."""
    ethanol = data.npz.read(data.embedded.ethanol_path())
    train, valid = as_frames(ethanol[np.arange(40)]), as_frames(ethanol[np.arange(40, 48)])
    reference = reference_energies(train).values

    def loader(frames, **more):
        return batches(
            frames, batch_size=4, labels=("energy", "forces"), reference_energies=reference, **more
        )

    network = schnet(
        None, cutoff_function=None, features=256, interactions=1,
        radial_centers=np.linspace(0.5, 5.0, 20), radial_widths=np.full(20, 0.25),
    )  # fmt: skip
    result = training.fit(
        network, Noted(loader(train, seed=0), folder.with_suffix(".note")), loader(valid),
        steps=steps, loss=training.weighted(energy=0.01, forces=0.99), ema=0.99,
        plateau=training.Plateau(patience=2), checkpoints=folder, checkpoint_every=INTERVAL,
        log=folder.with_suffix(".jsonl"),
    )  # fmt: skip
    state = result.state._replace(key=jax.random.key_data(result.state.key))
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves((state, result.params))]
    np.savez(folder.with_suffix(".npz"), *leaves)


def child(folder, steps):
    context = multiprocessing.get_context("forkserver")
    process = context.Process(target=work, args=(folder, steps), daemon=True)
    process.start()
    return process


def noted(folder):
    return [int(step) for step in folder.with_suffix(".note").read_text().split()]


def complete(folder):
    return sorted(int(p.name) for p in folder.glob("*") if p.name.isdigit())


def unfinished(folder):
    return {p.name for p in folder.glob("*tmp*")} if folder.exists() else set()


def kill_one(folder, rng):
    """Let a process come further than those before it, and kill it within a save."""
    before = max(complete(folder), default=0)
    process = child(folder, 10**8)
    while process.is_alive() and max(complete(folder), default=0) <= before:
        time.sleep(0.005)
    while process.is_alive() and not unfinished(folder):
        time.sleep(0.002)
    time.sleep(rng.uniform(0.0, LONGEST_DELAY))
    process.kill()
    process.join()
    if process.exitcode != -9:
        raise RuntimeError("the training ended by itself")
    first, last = noted(folder)
    return {
        "began_at": first, "reached": last, "complete": complete(folder),
        "within_a_save": bool(unfinished(folder)),
    }  # fmt: skip


def whole(folder, steps):
    process = child(folder, steps)
    process.join()
    if process.exitcode:
        raise RuntimeError("the training failed")
    lines = folder.with_suffix(".jsonl").read_text().splitlines()
    history = [json.loads(line) for line in lines]
    for entry in history:
        del entry["seconds"], entry["compilations"]
    with np.load(folder.with_suffix(".npz")) as file:
        return [file[name] for name in file.files], history


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=20)
    options = parser.parse_args()
    rng, found = np.random.default_rng(0), []
    with tempfile.TemporaryDirectory() as parent:
        # Programs are compiled once for all the processes.
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(parent, "cache")))
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        folder = Path(parent, "killed")
        for _ in range(options.kills):
            found.append(kill_one(folder, rng))
            print(found[-1], flush=True)
        steps = found[-1]["reached"] + 2 * INTERVAL
        leaves, history = whole(folder, steps)
        begins = [one["began_at"] for one in found[1:]] + [noted(folder)[0]]
        expected, expected_history = whole(folder.with_name("unbroken"), steps)
        damaged = len(list(folder.glob("damaged-*")))
        sizes = [f.stat().st_size for f in (folder / str(steps)).rglob("*") if f.is_file()]
    lost = [one["reached"] - begin for one, begin in zip(found, begins, strict=True)]
    record = {
        "kills": len(found), "within_a_save": sum(one["within_a_save"] for one in found),
        "interval_steps": INTERVAL, "checkpoint_bytes": sum(sizes),
        "largest_loss_steps": max(lost), "lost_steps": lost, "damaged_checkpoints": damaged,
        "steps": steps,
        "equal_to_unbroken_run": len(leaves) == len(expected)
        and all(np.array_equal(a, b) for a, b in zip(leaves, expected, strict=True)),
        "history_equal": history == expected_history,
        "each": found, "date": date.today().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {p: version(p) for p in ("jaxff", "jax", "orbax-checkpoint", "numpy")},
    }  # fmt: skip
    print({key: value for key, value in record.items() if key != "each"})
    RECORD.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
