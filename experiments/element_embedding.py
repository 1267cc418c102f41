"""The embedding of elements that the pretrained SpookyNet has learnt, over the periodic table.

    python experiments/element_embedding.py [--weights PATH]

Vectors with which atoms start, of the elements up to radon: free ones plus linear maps of electron
configurations. Drawn are their first two principal components, and the first three as red, green
and blue over the periodic table. ``neighbor_in_group`` says of how many elements the nearest other
vector belongs to the same column of the table (f elements to each other), beside what a random
order of the elements would give, on average over 1000. The record goes to
``element_embedding.json``, the figure to ``element_embedding.png``.
"""

import argparse
import json
from datetime import date
from importlib.metadata import version
from pathlib import Path

import numpy as np
from matplotlib.patches import Rectangle

from jaxff.elements import symbols
from jaxff.interfaces import spookynet
from jaxff.networks.electrons import LAST, configurations
from jaxff.report import canvas

HERE = Path(__file__).resolve()
NOBLE = (0, 2, 10, 18, 36, 54, 86)
NUMBERS = np.arange(1, LAST + 1)


def place(number):
    """Row and column of the table; f elements in rows of their own, with column 0 as group."""
    period = int(np.searchsorted(NOBLE, number))
    step, end = number - NOBLE[period - 1], NOBLE[period] - number
    if number == 2:
        return 1, 18, 18
    if step <= 2:
        return period, step, step
    if period >= 6 and 3 <= step <= 16:  # lanthanum to ytterbium
        return period + 2.5, step, 0
    return period, 18 - end, 18 - end


def embedding(weights):
    """A row for each element."""
    _, params = spookynet.load(weights)
    own = params["network"]["nuclei"]
    table = np.asarray(own["elements"], np.float64)
    kernel = np.asarray(own["electrons"]["kernel"], np.float64)
    return (table + configurations() @ kernel)[1:]


def neighbors_in_group(vectors, groups):
    apart = np.linalg.norm(vectors[:, None] - vectors, axis=2) + np.diag(np.full(len(groups), 1e9))
    return int(np.sum(groups[np.argmin(apart, axis=1)] == groups))


def draw(scores, shares, places):
    figure = canvas.new_figure(12, 4.6)
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.25))
    colors = scores[:, :3] - scores[:, :3].min(axis=0)
    colors = 0.25 + 0.75 * colors / colors.max(axis=0)
    left.scatter(scores[:, 0], scores[:, 1], c=colors, s=90)
    for number, color, (row, column, _) in zip(NUMBERS, colors, places, strict=True):
        symbol = symbols([number])[0]
        left.text(*scores[number - 1, :2], symbol, fontsize=6, ha="center", va="center")
        right.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, color=color))
        right.text(column, row, symbol, fontsize=8, ha="center", va="center")
    left.set(
        xlabel=f"first component, {shares[0]:.0%} of variance", ylabel=f"second, {shares[1]:.0%}"
    )
    canvas.tidy(left)
    right.set(xlim=(0.4, 18.6), ylim=(9.2, 0.4), aspect="equal")
    right.axis("off")
    canvas.save(HERE.with_suffix(".png"), figure)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--weights", type=Path, help="pretrained model, fetched otherwise")
    vectors = embedding(parser.parse_args().weights or spookynet.download())
    left, sizes, _ = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)
    shares = sizes**2 / np.sum(sizes**2)
    places = [place(int(number)) for number in NUMBERS]
    groups, random = np.array([group for *_, group in places]), np.random.default_rng(0)
    record = {
        "shares_of_variance": shares[:8].tolist(),
        "neighbor_in_group": neighbors_in_group(vectors, groups),
        "neighbor_in_group_at_random": float(
            np.mean([neighbors_in_group(vectors, random.permutation(groups)) for _ in range(1000)])
        ),
        "elements": LAST,
        "date": date.today().isoformat(),
        "versions": {p: version(p) for p in ("jaxff", "numpy")},
    }
    HERE.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record, indent=1))
    draw(left * sizes, shares, places)


if __name__ == "__main__":
    main()
