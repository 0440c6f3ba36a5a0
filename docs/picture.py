"""Draws docs/architectures.svg, the picture of the README, from the store of a `make sweep`: python docs/picture.py."""

import ast
import io
from collections import defaultdict
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from mlflow import MlflowClient

mpl.rcParams["svg.hashsalt"] = "seedbed"
LEARNING_RATE, EPOCHS = "1.0", "5000"

client = MlflowClient("sqlite:///mlflow.db")
experiment = client.get_experiment_by_name("architectures")
query = f"params.`training.learning_rate` = '{LEARNING_RATE}' AND params.`training.epochs` = '{EPOCHS}'"
curves = defaultdict(list)
colors = {}
for run in client.search_runs([experiment.experiment_id], query):
    content = Path(client.download_artifacts(run.info.run_id, "loss.npz")).read_bytes()
    hidden = run.data.params["network.hidden"]
    curves[hidden].append(np.load(io.BytesIO(content), allow_pickle=False)["loss"])
    colors[hidden] = run.data.tags["mlflow.runColor"]

figure = Figure(figsize=(8, 4.2), layout="constrained")
axes = figure.subplots()
for hidden in sorted(curves, key=ast.literal_eval):
    stack = np.array(curves[hidden])
    x = np.unique(np.geomspace(1, stack.shape[1] - 1, 250).astype(int))
    axes.fill_between(x, stack.min(axis=0)[x], stack.max(axis=0)[x], color=colors[hidden], alpha=0.15, lw=0)
    axes.plot(x, np.median(stack, axis=0)[x], color=colors[hidden], label=f"hidden {hidden}")
axes.set(xscale="log", yscale="log", xlabel="updates", ylabel="loss: half the sum of squared errors")
axes.set_title(f"XOR, learning rate {float(LEARNING_RATE):g}: median of ten seeds, and from the best seed to the worst")
axes.legend()
figure.savefig(Path(__file__).with_name("architectures.svg"), metadata={"Date": None})
