r"""Train networks as configurations say, test them, and keep the records and curves.

    python experiments/networks.py experiments/md17/*_ethanol.toml [--scratch FOLDER] [--test-only]
    python experiments/networks.py experiments/md17/painn_ethanol_tuned.toml \
        --start-from experiments/md17/painn_ethanol.safetensors

What ``jaxff train`` does, with records. Configurations of ``md17/`` train on 1000 geometries of the
rMD17 archive with their MD17 labels (PBE+vdW-TS), that of ``dipeptides/`` on a part of SPICE;
``JAXFF_DATA`` is the folder of the data. Checkpoints go to the scratch folder: a run that was
stopped goes on when it is started again. Beside the configuration are written the log of
validations (``.jsonl``), the best parameters, with the reference energies in the model
(``.safetensors``), the result (``.json``) and the curves of all logs there (``curves.png``). With
``--test-only`` a model that is there is tested again, and its record written.
"""

import argparse
import json
import os
import platform
import tempfile
from collections import Counter
from datetime import date
from importlib.metadata import version
from pathlib import Path

import jax
from matplotlib.ticker import NullFormatter

jax.config.update("jax_enable_x64", True)

import jaxff
from jaxff import training
from jaxff.allocation import keep_freed_memory
from jaxff.report import canvas

# Mean absolute errors, kcal/mol and kcal/mol/Å: SchNet from arXiv:1706.08566, PaiNN from
# arXiv:2102.03150, geometric attention from the tables of its authors' program, SO3krates from
# arXiv:2205.14276.
PUBLISHED = {
    "schnet_ethanol": (0.08, 0.39), "painn_ethanol": (0.064, 0.224),
    "geomatt_ethanol": (0.25, 0.98), "so3krates_ethanol": (0.052, 0.096),
    "spookynet_ethanol": (0.052, 0.094),
}  # fmt: skip
COLORS = {
    "schnet": canvas.BLUE, "painn": canvas.ORANGE, "geomatt": canvas.GREEN,
    "so3krates": canvas.PURPLE, "spookynet": "black",
}  # fmt: skip


def run(path, options):
    """Train or read, test, record."""
    job = training.prepare(training.read_config(path))
    model, log = path.with_suffix(".safetensors"), path.with_suffix(".jsonl")
    if options.test_only:
        params = jaxff.io.load(model)[1]
    else:
        first = options.start_from and jaxff.io.load(options.start_from)[1]
        params = job.fit(checkpoints=options.scratch / path.stem, log=log, params=first).params
        jaxff.io.save(model, job.model, params)
    record = result(path.stem, job, params, history(log))
    if options.start_from:
        record["start_from"] = options.start_from.name
    path.with_suffix(".json").write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    print(json.dumps(record, indent=1, ensure_ascii=False), flush=True)


def history(log):
    return [json.loads(line) for line in log.read_text().splitlines()]


def result(name, job, params, entries):
    parts = {"train": job.train, "valid": job.valid, "test": job.test}
    return {
        **{part: len(batches.found.sizes) for part, batches in parts.items()},
        "errors": job.test_errors(params),
        "published": dict(zip(("energy", "forces"), PUBLISHED.get(name, ()), strict=False)),
        "best_step": max(entry["step"] for entry in entries if entry["best"]),
        "steps": entries[-1]["step"], "seconds": entries[-1]["seconds"],
        "compilations": max(entry["compilations"] for entry in entries),
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
        "date": date.today().isoformat(), "load": os.getloadavg()[0],
        "machine": f"{platform.machine()}, 1 of {os.cpu_count()} cores",
        "versions": {p: version(p) for p in ("jaxff", "jax", "flax", "optax", "numpy")},
    }  # fmt: skip


def draw(folder):
    """Validation errors against steps, with the published test errors."""
    plot = canvas.new_figure(11, 3.6)
    axes = plot.subplots(1, 2)
    seen = Counter()
    for log in sorted(folder.glob("*.jsonl")):
        kind = log.stem.partition("_")[0]
        entries, color = history(log), COLORS.get(kind, canvas.BLUE)
        style = ("-", "--", "-.", ":")[seen[kind] % 4]
        seen[kind] += 1
        for place, label in enumerate(("energy", "forces")):
            errors = [entry["errors"][label] for entry in entries]
            unit = training.metrics.unit_symbol(errors[0]["unit"])
            axes[place].loglog(
                [entry["step"] for entry in entries], [row["mae"] for row in errors], color=color,
                ls=style, label=f"{log.stem.replace('_', ', ')}, validation",
            )  # fmt: skip
            if log.stem in PUBLISHED:
                axes[place].axhline(
                    PUBLISHED[log.stem][place], color=color, ls=":", lw=1, label="published, test"
                )
            axes[place].set(xlabel="steps", ylabel=f"{label}, mean absolute error, {unit}")
    for each in axes:
        canvas.tidy(each)
        each.xaxis.set_minor_formatter(NullFormatter())
    axes[1].legend(fontsize=7, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    canvas.save(folder / "curves.png", plot)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("configs", nargs="+", type=Path, help="TOML files")
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()) / "networks")
    parser.add_argument("--start-from", type=Path, help="model whose parameters to begin with")
    parser.add_argument("--test-only", action="store_true", help="test the model that is there")
    parser.add_argument("--draw-only", action="store_true", help="draw the logs that are there")
    options = parser.parse_args()
    keep_freed_memory()
    os.environ["JAXFF_DATA"] = os.path.abspath(os.environ.get("JAXFF_DATA", "../shared/data"))
    for path in options.configs:
        if not options.draw_only:
            run(path.resolve(), options)
        draw(path.resolve().parent)


if __name__ == "__main__":
    main()
