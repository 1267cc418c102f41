"""What the records of ``superlinear_convergence.py`` say, beside the published numbers.

    python experiments/superlinear_report.py

Ratios of iterations to those of the published table, whether eigenvectors need the fewest,
effective dimensions, iterations in two bases, the small system beside its stored reference, and the
fit of the rule of thumb, iterations = n (k / k̂)^-m, go to ``superlinear_report.json``; the figure
to ``superlinear_convergence.png``. Published values: the data that accompany Blücher, Müller &
Chmiela, J. Chem. Theory Comput. 19, 4619 (2023),
doi:10.1021/acs.jctc.2c01304.
"""

import json
import os
import re
from pathlib import Path

import numpy as np

from jaxff.linalg.cost import rule_of_thumb
from jaxff.report import canvas

HERE = Path(__file__).resolve().parent
FRACTIONS = (0.0095, 0.0204, 0.049, 0.105, 0.201)
# Iterations at these fractions, by the names of the methods here.
PUBLISHED = {
    "ethanol": {
        "svd": (1552, 627, 240, 116, 66), "pivoted_cholesky": (2395, 1007, 422, 231, 138),
        "leverage": (2305, 960, 379, 196, 192), "uniform": (3193, 1314, 384, 192, 153),
    },
    "uracil": {
        "svd": (6472, 1470, 413, 187, 90), "pivoted_cholesky": (8344, 2214, 611, 291, 155),
        "leverage": (8974, 2395, 587, 291, 144), "uniform": (8647, 2368, 593, 294, 153),
    },
    "toluene": {
        "svd": (9321, 1708, 734, 310, 151), "pivoted_cholesky": (12294, 2758, 1085, 511, 259),
        "leverage": (13784, 2500, 1059, 512, 253), "uniform": (14625, 2432, 1059, 534, 257),
    },
    "aspirin": {
        "svd": (17482, 9030, 3313, 968, 425), "pivoted_cholesky": (23034, 12785, 5493, 1826, 760),
        "leverage": (32426, 12529, 5732, 1584, 730), "uniform": (31372, 13118, 5667, 1682, 771),
    },
}  # fmt: skip
BARS = {"svd": 0.15, "pivoted_cholesky": 0.3, "leverage": 0.3, "uniform": 0.3}
DIMENSIONS = {
    "aspirin40": (104.86, 499.18, 1018.82, 1591.96),
    "aspirin100": (150.26, 754.05, 1612.11, 3115.14),
    "aspirin": (235.84, 1069.30, 2522.75, 6023.42),
}
RULES = {"ethanol": (0.87, 10), "uracil": (1.07, 32), "toluene": (1.01, 44), "aspirin": (1.14, 236)}
TIMED = (0, 1)
COLORS = {
    "svd": "k", "uniform": canvas.BLUE, "leverage": canvas.ORANGE,
    "random_pivoted_cholesky": canvas.GREEN, "pivoted_cholesky": canvas.PURPLE,
}  # fmt: skip


def find(records, system, method, fraction):
    """The record in the middle of those of all seeds, in the first basis or else in the turned one.

    Leading eigenvectors by a subspace stand in for those of a reduction.
    """
    key = f"{system}|{method}|{fraction}"
    for tags in ("", "|turned"):
        drawn = [v for k, v in records.items() if k.partition("|seed")[0] == key + tags]
        if drawn:
            return sorted(drawn, key=lambda found: found["iterations"])[len(drawn) // 2]
    return find(records, system, "svd_subspace", fraction) if method == "svd" else None


def iterations(records):
    """Systems by methods: ratios to the published numbers and whether they are within the bar."""
    result = {}
    for system, method, index, fraction in (
        (s, m, i, f) for s in PUBLISHED for m in PUBLISHED[s] for i, f in enumerate(FRACTIONS)
    ):
        found = find(records, system, method, fraction)
        if found is None:
            continue
        wanted = PUBLISHED[system][method][index]
        ratio = found["iterations"] / wanted
        result.setdefault(system, {}).setdefault(method, {})[f"{fraction}"] = {
            "iterations": found["iterations"], "published": wanted, "ratio": round(ratio, 3),
            "within": bool(abs(ratio - 1) <= BARS[method]),
        }  # fmt: skip
    return result


def ordered(compared):
    """Systems by fractions: whether eigenvectors need the fewest iterations."""
    return {
        system: {
            fraction: bool(best["iterations"] < min(others))
            for fraction, best in methods.get("svd", {}).items()
            if (
                others := [
                    found[fraction]["iterations"]
                    for method, found in methods.items()
                    if method != "svd" and fraction in found
                ]
            )
        }
        for system, methods in compared.items()
    }


def other_frames(records):
    """Iterations with frames of other splits over those with the first: how much draws matter."""
    return {
        key: found["iterations"] / records[first]["iterations"]
        for key, found in records.items()
        if "/" in key and (first := re.sub("/[0-9]+", "", key)) in records
        and "iterations" in found
    }  # fmt: skip


def bases(records):
    """Iterations in the first basis and in the turned one, where there are both."""
    return {
        key: {"first": records[key]["iterations"], "turned": turned["iterations"]}
        for key, turned in (
            (k.replace("|turned", ""), v) for k, v in records.items() if "|turned" in k
        )
        if key in records
    }


def dimensions(records):
    """Effective dimensions: ours, published, ratio."""
    return {
        system: {
            level: {"found": found, "published": wanted, "ratio": round(found / wanted, 4)}
            for (level, found), wanted in zip(
                records[f"{system}|spectrum|"]["effective_dimension"].items(),
                published,
                strict=True,
            )
        }
        for system, published in DIMENSIONS.items()
        if f"{system}|spectrum|" in records
    }


def rules(records):
    """Exponent and scale of iterations against rank, and the rank that the rule then gives."""
    result = {}
    for system, method in ((s, m) for s in PUBLISHED for m in COLORS):
        found = [find(records, system, method, f) for f in FRACTIONS]
        found = [f for f in found if f is not None]
        if len(found) < 3:
            continue
        size = found[0]["equations"]
        logs = np.log([[f["rank"], f["iterations"] / size] for f in found])
        slope, offset = np.polyfit(*logs.T, 1)
        exponent, scale = -slope, float(np.exp(offset / -slope))
        result.setdefault(system, {})[method] = {
            "exponent": round(exponent, 3), "scale": round(scale, 1), "published": RULES[system],
            "rank_by_rule": rule_of_thumb(size, exponent=exponent, scale=scale),
            "rank_by_default_rule": rule_of_thumb(size),
        }  # fmt: skip
        if not any(f["turned"] for f in found):  # where iterations take less than they would
            fastest = min(found, key=seconds)
            result[system][method]["fastest_rank_here"] = fastest["rank"]
    return result


def seconds(found):
    """Of a solve; a long factor was made once, in time that grows with the square of its rank."""
    share = (found["rank"] / found.get("long_rank", found["rank"])) ** 2
    return found["wall_s"] + share * found.get("long_factor_s", 0.0)


def small(records):
    """The stored reference system."""
    folder = Path(os.environ.get("JAXFF_REFERENCE", "../shared/reference"))
    stored = np.load(folder / "preconditioner_ethanol100.npz")
    result = {}
    names = {
        "svd": "svd", "svd_dense": "svd", "svd_subspace": "svd",
        "pivoted_cholesky": "incomplete_cholesky",
        "uniform": "nystroem_uniform", "leverage_exact": "nystroem_leverage",
        "leverage": "nystroem_leverage",
    }  # fmt: skip
    for (method, name), (index, fraction) in (
        (m, f) for m in names.items() for f in enumerate(stored["fraction"])
    ):
        found = find(records, "ethanol100", method, fraction)
        if found is None:
            continue
        wanted = np.atleast_1d(stored[f"iters_{name}"][index])
        result[f"{method}|{fraction}"] = entry = {
            "iterations": found["iterations"], "reference": float(wanted.mean()),
            "range": [int(wanted.min()), int(wanted.max())],
        }  # fmt: skip
        largest = found.get("largest") or found.get("spectrum", {}).get("eigenvalue", [0.0])[0]
        if name == "svd" and largest:
            entry["largest_error"] = (
                largest / float(stored["svd_preconditioned_max_eig"][index]) - 1
            )
    if "ethanol100|spectrum|" in records:
        found = records["ethanol100|spectrum|"]
        result["ridge_dimension"] = [found["ridge_dimension"], float(stored["effective_dimension"])]
    return result


def figure(records, path):
    """Iterations, times and spectra."""
    plot = canvas.new_figure(15, 7)
    axes = plot.subplots(2, 4)
    for column, system in enumerate(PUBLISHED):
        for method, color in COLORS.items():
            found = [find(records, system, method, f) for f in FRACTIONS]
            shown = [f for f in found if f is not None]
            percent = [100 * f["rank"] / f["equations"] for f in shown]
            label = method.replace("_", " ")
            axes[0, column].loglog(
                percent, [f["iterations"] for f in shown], "o-", color=color, ms=3, label=label
            )
            if method in PUBLISHED[system]:
                axes[0, column].loglog(
                    100 * np.array(FRACTIONS), PUBLISHED[system][method], "x", color=color, ms=7
                )
            timed = [f for f in shown if not f["turned"]]
            if method != "svd" and column in TIMED:  # svd: not by a way that one would time
                axes[1, column].loglog(
                    [100 * f["rank"] / f["equations"] for f in timed],
                    [seconds(f) for f in timed], "o-", color=color, ms=3,
                )  # fmt: skip
        axes[0, column].set(title=system, xlabel="k / n (%)", ylabel="iterations (x: published)")
    for column in TIMED:
        axes[1, column].set(xlabel="k / n (%)", ylabel="seconds", title=list(PUBLISHED)[column])
    for system in ("ethanol100", "aspirin40", "aspirin100", *PUBLISHED):
        spectrum = records.get(f"{system}|spectrum|")
        if spectrum:
            label = f"{system}, n = {spectrum['equations']}"
            axes[1, 2].loglog(spectrum["place"], spectrum["eigenvalue"], label=label)
    axes[1, 2].set(title="matrix", xlabel="place", ylabel="eigenvalue", ylim=(1e-13, 100))
    axes[1, 2].axhline(1e-10, color=canvas.GREY, lw=0.8)
    for method in ("svd_dense", *COLORS):
        found = records.get(f"ethanol100|{method}|0.1", {}).get("spectrum")
        if found:
            color = COLORS.get(method, "k")
            label = method.replace("_dense", "").replace("_", " ")
            axes[1, 3].loglog(found["place"], found["eigenvalue"], color=color, label=label)
    plain = records.get("ethanol100|spectrum|")
    if plain:
        values = 1 + np.maximum(plain["eigenvalue"], 0) * 1e10
        axes[1, 3].loglog(plain["place"], values, "--", color=canvas.GREY, label="without")
    axes[1, 3].set(title="preconditioned, n = 2700, 10 %", xlabel="place")
    for which in (axes[0, 0], axes[1, 2], axes[1, 3]):
        which.legend(fontsize=7)
    for which in (*axes[0], axes[1, 0], axes[1, 1]):
        which.set_xticks([1, 2, 5, 10, 20], ["1", "2", "5", "10", "20"], minor=False)
        which.set_xticks([], minor=True)
    canvas.save(path, plot)


def main():
    records = json.loads((HERE / "superlinear_convergence.json").read_text())["records"]
    for key, found in records.items():
        found["turned"] = "|turned" in key or "|svd|" in key
    report = {
        "iterations": (compared := iterations(records)), "svd_needs_fewest": ordered(compared),
        "effective_dimensions": dimensions(records), "two_bases": bases(records),
        "other_frames": other_frames(records),
        "rule_of_thumb": rules(records), "reference_system": small(records),
    }  # fmt: skip
    (HERE / "superlinear_report.json").write_text(json.dumps(report, indent=1) + "\n")
    figure(records, HERE / "superlinear_convergence.png")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
