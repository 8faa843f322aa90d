#!/usr/bin/python3
"""Plots throughput over time of the demo's runs: plot.py OUT.png, with the demo's data on stdin.

In each panel, kills are marked lines, each route flip that moved packets is a tick below (first row
up, second row down), and the time of spraying is shaded.

Relay and targets: one panel per run, with the throughput of applications; changes of targets are
dashed lines. Tunnel: one panel with the throughput
of each kind of traffic, and one with arrived and lost datagrams of the numbered stream. Open: one
panel with the throughput of each kind.
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
GOOD = "#27ae60"
CHANGE = "#2c3e50"

KINDS = [
    ("numbered UDP stream", "#1f77b4"),
    ("QUIC", "#17a2a2"),
    ("iperf3 -u in the TUN", "#f2b134"),
    ("HTTP in the TUN", "#ff7f0e"),
]

OPEN_COLORS = [
    DOWN, UP, "#17a2a2", "#f2b134", "#8c6bb1", "#7f8c8d", "#a6cee3", "#fdbf6f", "#b2df8a"
]

TITLES = {
    "relay": "anyrelay: three POPs without state",
    "HAProxy": "control: HAProxy in the same three POPs, same script",
    "nftables": "control: nftables (jhash, conntrack) in the same three POPs, same script",
    "stateless": "control: nftables (jhash, no conntrack) in the same three POPs, same script",
    "control, calm": "control, calm: HAProxy in the same three POPs, without flips and kills",
    "control": "control: HAProxy in the same three POPs, same script",
    "prefix": "anyrelay, clients over IPv4 and server over IPv6: three POPs without state",
    "ipip-4in4": "anyrelay, ipip, clients and server over IPv4: three POPs without state",
    "ipip-6in4": "anyrelay, ipip, clients over IPv6, server over IPv4: three POPs without state",
    "gue-4in6": "anyrelay, gue, clients over IPv4, server over IPv6: three POPs without state",
    "gue-6in6": "anyrelay, gue, clients and server over IPv6: three POPs without state",
    "transparent6": "anyrelay, clients and server over IPv6: three POPs without state",
}


def draw_marks(axes, run, data, peak):
    """Draws events of routes and POPs in a panel."""
    begin, end = run.get("spray", data["spray"])
    axes.axvspan(begin, end, color=SPRAY, alpha=0.10, linewidth=0)
    if end > begin:
        axes.text(
            (begin + end) / 2,
            peak * 1.17,
            "every packet to a random POP",
            color=SPRAY,
            ha="center",
            va="top",
            fontsize=8,
        )
    for index, (time, pop) in enumerate(run["kills"]):
        axes.axvline(
            time, color=KILL, linewidth=1.4, label="kill -9 of a POP" if not index else None
        )
        axes.text(time, peak * 1.17, f" {pop}", color=KILL, va="top", fontsize=8)
    draw_changes(axes, run, peak)
    for row, direction in ((-0.05, "up"), (-0.10, "down")):
        flips = run["flips_" + direction]
        axes.plot(
            flips,
            [row * peak] * len(flips),
            linestyle="",
            marker="|",
            markersize=5,
            markeredgewidth=0.7,
            color=FLIP,
            label="route flip that moved packets (up, down)" if direction == "up" else None,
        )
    axes.set_xlim(0, data["seconds"])
    axes.set_ylim(-0.14 * peak, peak * 1.2)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def draw_changes(axes, run, peak):
    """Draws changes of targets, and when one dies, as lines with words along them."""
    for key, color, height, label in (
        ("changes", CHANGE, 0.03, "change of the targets in force"),
        ("deaths", KILL, 0.55, "death of a target"),
    ):
        for index, (time, text) in enumerate(run.get(key, [])):
            axes.axvline(
                time, color=color, linewidth=1, linestyle="--", label=None if index else label
            )
            axes.text(
                time,
                peak * height,
                text,
                color=color,
                rotation=90,
                ha="center",
                va="bottom",
                fontsize=7,
                bbox={"facecolor": "white", "alpha": 0.75, "pad": 0.6, "linewidth": 0},
            )


def draw_titles(axes, left, right, good):
    """Draws the titles of a panel, and the result."""
    axes.set_title(left, loc="left", fontsize=11, fontweight="bold")
    axes.set_title(right, loc="right", fontsize=10, color=GOOD if good else KILL)


def times_of(series, data):
    """The centers of the buckets."""
    return [(bucket + 0.5) * data["bucket_seconds"] for bucket in range(len(series))]


def draw_run(axes, run, data, peak):
    """Draws one panel of the relay."""
    axes.stackplot(
        times_of(run["down"], data),
        run["down"],
        run["up"],
        colors=[DOWN, UP],
        alpha=0.85,
        linewidth=0,
        labels=["downloads", "uploads"],
    )
    draw_marks(axes, run, data, peak)
    axes.set_ylabel("payload, Mbit/s")
    broken = (
        f"{run['broken']} of {run['transfers']} transfers{run.get('moved', '')} broken, "
        f"{run['short_broken']} of {run['short_connections']} short connections"
    )
    good = run["broken"] == 0 and run["short_broken"] == 0
    draw_titles(axes, TITLES.get(run["name"], run["name"]), broken, good)


def draw_traffic(axes, run, data, kinds, title):
    """Draws the throughput of each kind of traffic, of these names and colors."""
    series = run["series"]
    axes.stackplot(
        times_of(series[0], data),
        *series,
        colors=[color for _, color in kinds],
        alpha=0.85,
        linewidth=0,
        labels=[name for name, _ in kinds],
    )
    draw_marks(axes, run, data, max([1.0] + [sum(bucket) for bucket in zip(*series)]))
    axes.set_ylabel("payload, Mbit/s")
    result = (
        f"{run['broken']} of {run['transfers']} transfers broken, "
        f"{run['conntrack_invalid']} segments invalid to the NATs"
    )
    draw_titles(
        axes,
        title,
        result,
        run["broken"] == 0 and run["conntrack_invalid"] == 0,
    )


def draw_tunnel_stream(axes, run, data):
    """Draws arrived and lost numbered datagrams."""
    width = data["bucket_seconds"]
    per_second = 1e6 / 8 / run["datagram_bytes"]
    arrived = [mbit * per_second for mbit in run["series"][0]]
    lost = [count / width for count in run["datagrams_lost"]]
    times = times_of(arrived, data)
    for index, (begin, end) in enumerate(run["dead_times"]):
        axes.axvspan(
            begin,
            end,
            color=KILL,
            alpha=0.08,
            linewidth=0,
            label=None if index else "a dead POP held a route",
        )
    axes.bar(times, arrived, width, color=KINDS[0][1], alpha=0.85)
    axes.bar(times, lost, width, color=KILL, label="lost datagrams, by when they were sent")
    draw_marks(axes, run, data, max([1.0] + arrived))
    axes.set_ylabel("datagrams / s")
    result = f"{run['lost_outside_kill']} of {run['sent']} lost outside of kills"
    draw_titles(
        axes,
        "the numbered UDP stream, both ways: arrived and lost",
        result,
        run["lost_outside_kill"] == 0,
    )


def draw_relay(data):
    """Draws a panel for each run."""
    runs = data["runs"]
    within = int(data["seconds"] / data["bucket_seconds"])
    for run in runs:
        run["down"], run["up"] = run["down"][:within], run["up"][:within]
    peak = max([1.0] + [d + u for run in runs for d, u in zip(run["down"], run["up"])])
    figure, panels = make_panels(len(runs))
    for axes, run in zip(panels, runs):
        draw_run(axes, run, data, peak)
    draw_legend(panels[-1], panels[:1])
    return figure


def draw_tunnel(data):
    """Draws two panels."""
    run = data["tunnel"]
    within = int(data["seconds"] / data["bucket_seconds"])
    run["series"] = [series[:within] for series in run["series"]]
    run["datagrams_lost"] = run["datagrams_lost"][:within]
    figure, panels = make_panels(2)
    title = "anyrelay tunnels: agents behind strict NATs, three POPs without state"
    draw_traffic(panels[0], run, data, KINDS, title)
    draw_tunnel_stream(panels[1], run, data)
    draw_legend(panels[-1], panels)
    return figure


def draw_open(data):
    """Draws one panel."""
    run = data["open"]
    within = int(data["seconds"] / data["bucket_seconds"])
    run["series"] = [series[:within] for series in run["series"]]
    figure, panels = make_panels(1)
    title = "anyrelay open tunnels: agents behind strict NATs, and a host outside"
    draw_traffic(panels[0], run, data, list(zip(run["kinds"], OPEN_COLORS)), title)
    draw_legend(panels[-1], panels)
    return figure


def make_panels(count):
    """Stacked panels with a common time axis."""
    figure, panels = plt.subplots(
        count, 1, figsize=(12, 3.4 * count), sharex=True, squeeze=False, constrained_layout=True
    )
    return figure, list(panels[:, 0])


def draw_legend(axes, panels):
    """Draws the legend of these panels below the last one."""
    axes.set_xlabel("seconds")
    known = {}
    for panel in panels:
        for handle, label in zip(*panel.get_legend_handles_labels()):
            known.setdefault(label, handle)
    columns = (len(known) + 1) // 2 if len(known) > 5 else len(known)
    axes.legend(
        known.values(),
        known.keys(),
        loc="upper center",
        ncol=columns,
        bbox_to_anchor=(0.5, -0.16),
        frameon=False,
        fontsize=9,
    )


def main():
    """Reads the data, writes the figure."""
    if len(sys.argv) != 2:
        sys.exit("usage: plot.py OUT.png < data.json")
    data = json.load(sys.stdin)
    if "tunnel" in data:
        figure = draw_tunnel(data)
    elif "open" in data:
        figure = draw_open(data)
    else:
        figure = draw_relay(data)
    figure.savefig(sys.argv[1], dpi=130)


if __name__ == "__main__":
    main()
