"""What each order of geometric attention can tell apart: shapes seen by one atom.

    python experiments/geomatt_shapes.py

Four equal atoms lie on corners of a regular octagon around a fifth, 1 Å from it. A linear readout
of the features of the atom in the middle, after one layer with one stream, tells two shapes apart:

- *distances*: the ring is 1 or 1.15 Å wide;
- *angles*: corners 0, 2, 4, 6 or 0, 1, 4, 5; distances from the middle agree;
- *four atoms*: corners 0, 1, 3, 4 or 0, 1, 2, 5; distances from the middle, those among the others
  and all angles at the middle agree, only paths of three steps differ.

Shapes are turned at random, with noise of 0.05 Å on every coordinate: 200 to train on (Adam, all at
once, five seeds of the network), 1000 to test; chance is 0.5. Record and figure go to
``geomatt_shapes.json`` and ``.png``. The task is that of Frank & Chmiela (2021), arXiv:2106.02549;
for the last pair see Pozdnyakov et al., Phys. Rev. Lett. 125, 166001 (2020),
doi:10.1103/PhysRevLett.125.166001.
"""

import json
import os
import platform
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

from jaxff import System
from jaxff.networks import attention, geomatt, vertex_features

TASKS = {  # corners and radius of either shape
    "distances": (((0, 2, 4, 6), 1.0), ((0, 2, 4, 6), 1.15)),
    "angles": (((0, 2, 4, 6), 1.0), ((0, 1, 4, 5), 1.0)),
    "four atoms": (((0, 1, 3, 4), 1.0), ((0, 1, 2, 5), 1.0)),
}
ORDERS, SEEDS, STEPS, RATE, NOISE = (2, 3, 4), 5, 150, 3e-2, 0.05  # NOISE in Å
SIZES = {"train": 200, "test": 1000}
OPTIONS = {"layers": 1, "features": 8, "filters": 32, "gamma": 10.0, "spacing": 0.1, "extent": 2.5}


def shape(corners, radius):
    """Positions of five atoms in Å, the first in the middle."""
    angle = np.pi / 4 * np.array(corners)
    ring = radius * np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=-1)
    return np.concatenate([np.zeros((1, 3)), ring])


def samples(task, count, rng):
    """Turned and noisy shapes, and which of the two each is."""
    labels = np.arange(count) % 2
    clean = np.stack([shape(*own) for own in TASKS[task]])[labels]
    turned = clean @ np.linalg.qr(rng.normal(size=(count, 3, 3)))[0]
    positions = turned + NOISE * rng.normal(size=clean.shape)
    return jnp.asarray(positions, jnp.float32), jnp.asarray(labels, jnp.float32)


def molecules(positions):
    return System(positions, np.full(positions.shape[-2], 6))


def logits(potential, params, positions):
    """The atom in the middle decides."""
    features = vertex_features(potential, params["network"], molecules(positions))[..., 0, :]
    return features @ params["weights"] + params["bias"]


def trainer(potential):
    """A compiled function that trains from a key and tests."""
    optimizer = optax.adam(optax.cosine_decay_schedule(RATE, STEPS))

    def loss(params, x, y):
        return jnp.mean(optax.sigmoid_binary_cross_entropy(logits(potential, params, x), y))

    def run(key, train, test):
        network = potential.init(key, molecules(train[0]))
        weights = jax.random.normal(key, (OPTIONS["features"],))
        params = {"network": network, "weights": weights, "bias": jnp.zeros(())}

        def step(carry, _):
            params, state = carry
            value, gradient = jax.value_and_grad(loss)(params, *train)
            updates, state = optimizer.update(gradient, state)
            return (optax.apply_updates(params, updates), state), value

        (params, _), losses = jax.lax.scan(step, (params, optimizer.init(params)), length=STEPS)
        right = [jnp.mean((logits(potential, params, x) > 0) == y) for x, y in (train, test)]
        return params, losses[-1], *right

    return jax.jit(run)


def figure(record, maps, path):
    plot = Figure(figsize=(12, 3.8), layout="constrained")
    axes = plot.subplots(1, 3)
    for place, rows in enumerate(record["accuracy"].values()):
        for order, row in rows.items():
            x = place + 0.22 * (int(order) - 3)
            style = {"color": f"C{order}", "label": "_" * place + f"order {order}"}
            axes[0].bar(x, np.mean(row["test"]), 0.2, **style)
            axes[0].plot([x] * len(row["test"]), row["test"], "k.", markersize=4)
    axes[0].axhline(0.5, color="gray", linestyle=":")
    axes[0].set(xticks=range(len(TASKS)), xticklabels=list(TASKS), ylabel="accuracy, five seeds")
    axes[0].legend(loc="lower left")
    most = np.abs(maps).max()
    for axis, alpha, (corners, _) in zip(axes[1:], maps, TASKS["four atoms"], strict=True):
        shades = axis.imshow(alpha, cmap="RdBu_r", vmin=-most, vmax=most)
        axis.set(xticks=range(5), xticklabels=["middle", *corners], yticks=range(5))
        axis.set_title(f"attention of order 4, corners {corners}", fontsize=10)
    plot.colorbar(shades, ax=axes[1:])
    plot.savefig(path, dpi=110)


def main():
    path = Path(__file__).with_suffix(".json")
    clock, rng = time.process_time(), np.random.default_rng(0)
    data = {t: [samples(t, count, rng) for count in SIZES.values()] for t in TASKS}
    accuracy = {task: {} for task in TASKS}
    for order in ORDERS:
        potential = geomatt(["C"], orders=(order,), **OPTIONS)
        train = trainer(potential)
        for task, own in data.items():
            runs = [train(jax.random.key(seed), *own) for seed in range(SEEDS)]
            names = "final loss", "train", "test"
            row = {
                name: [round(float(run[i]), 4) for run in runs] for i, name in enumerate(names, 1)
            }
            accuracy[task][str(order)] = row
            print(task, order, row, flush=True)
    shapes = [molecules(jnp.asarray(shape(*own), jnp.float32)) for own in TASKS["four atoms"]]
    maps = [np.asarray(attention(potential, runs[0][0]["network"], s)[4][0]) for s in shapes]
    record = {
        "date": date.today().isoformat(),
        "machine": f"{platform.machine()}, 1 of {os.cpu_count()} cores",
        "versions": {n: version(n) for n in ("jaxff", "jax", "flax", "optax", "numpy")},
        "samples": SIZES, "steps": STEPS, "noise A": NOISE, "network": OPTIONS,
        "accuracy": accuracy, "cpu seconds": round(time.process_time() - clock, 1),
    }  # fmt: skip
    path.write_text(json.dumps(record, indent=1) + "\n")
    figure(record, maps, path.with_suffix(".png"))


if __name__ == "__main__":
    main()
