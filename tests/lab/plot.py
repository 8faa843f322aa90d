#!/usr/bin/python3
"""Draws throughput over time of the demo's runs: plot.py OUT.png, with the demo's data on stdin.

One panel per run: what applications received and sent, the kills as marked lines, each flip of a
route that moved packets as a tick below (first row up, second row down), and the time in which
packets were sprayed as a shade.
"""

import json
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

DOWN = "#1f77b4"
UP = "#ff7f0e"
KILL = "#c0392b"
SPRAY = "#8e44ad"
FLIP = "#555555"

TITLES = {
    "relay": "anyrelay: three POPs without state",
    "control": "control: HAProxy in the same three POPs, same script",
}


def draw_run(axes, run, data, peak):
    """One panel."""
    width = data["bucket_seconds"]
    times = [(bucket + 0.5) * width for bucket in range(len(run["down"]))]
    begin, end = data["spray"]
    axes.axvspan(begin, end, color=SPRAY, alpha=0.10, linewidth=0)
    if end > begin:
        axes.text((begin + end) / 2, peak * 1.17, "every packet to a random POP",
                  color=SPRAY, ha="center", va="top", fontsize=8)
    axes.stackplot(times, run["down"], run["up"], colors=[DOWN, UP], alpha=0.85, linewidth=0,
                   labels=["downloads", "uploads"])
    for index, (time, pop) in enumerate(run["kills"]):
        axes.axvline(time, color=KILL, linewidth=1.4, label="kill -9 of a POP" if not index else None)
        axes.text(time, peak * 1.17, f" {pop}", color=KILL, va="top", fontsize=8)
    for row, direction in ((-0.05, "up"), (-0.10, "down")):
        flips = run["flips_" + direction]
        axes.plot(flips, [row * peak] * len(flips), linestyle="", marker="|", markersize=5,
                  markeredgewidth=0.7, color=FLIP,
                  label="route flip that moved packets (up, down)" if direction == "up" else None)
    axes.set_xlim(0, data["seconds"])
    axes.set_ylim(-0.14 * peak, peak * 1.2)
    axes.set_ylabel("payload, Mbit/s")
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.set_title(TITLES.get(run["name"], run["name"]), loc="left", fontsize=11, fontweight="bold")
    broken = (f"{run['broken']} of {run['transfers']} transfers broken, "
              f"{run['short_broken']} of {run['short_connections']} short connections")
    good = run["broken"] == 0 and run["short_broken"] == 0
    axes.set_title(broken, loc="right", fontsize=10, color="#27ae60" if good else KILL)


def main():
    """Reads the data, writes the figure."""
    if len(sys.argv) != 2:
        sys.exit("usage: plot.py OUT.png < data.json")
    data = json.load(sys.stdin)
    runs = data["runs"]
    within = int(data["seconds"] / data["bucket_seconds"])
    for run in runs:
        run["down"], run["up"] = run["down"][:within], run["up"][:within]
    peak = max([1.0] + [d + u for run in runs for d, u in zip(run["down"], run["up"])])
    figure, panels = plt.subplots(len(runs), 1, figsize=(12, 3.4 * len(runs)), sharex=True,
                                  squeeze=False, constrained_layout=True)
    for axes, run in zip(panels[:, 0], runs):
        draw_run(axes, run, data, peak)
    panels[-1, 0].set_xlabel("seconds")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    panels[-1, 0].legend(handles, labels, loc="upper center", ncol=len(labels),
                         bbox_to_anchor=(0.5, -0.16), frameon=False, fontsize=9)
    figure.savefig(sys.argv[1], dpi=130)


if __name__ == "__main__":
    main()
