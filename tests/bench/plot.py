#!/usr/bin/python3
"""Draws a result of scripts/bench relay or lab: plot.py OUT.png, with the JSON of it on stdin.

Of lab, bars of a POP's CPU time per gigabyte of payload. Of relay, bars of CPU time per packet:
the relay beside testpmd for each capture, and below, as far as they were measured, dropped packets
beside forwarded ones, two workers beside one, and the latency that a POP adds.
"""

import json
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

RELAY = "#1f77b4"
SWAP = "#ff7f0e"
IO = "#999999"
ONE = "#9ecae1"
DROPPED = "#c0392b"
QUANTILES = [("p50", "p50", "#9ecae1"), ("p99", "p99", "#4292c6"), ("p99.9", "p999", "#08519c")]

# From left to right; the others follow.
ORDER = ("min_512", "1514_512", "min_65536", "1514_65536", "min_1000000")
OTHERS = ("drops", "workers", "latency")
DROPS = ("fragments", "unknown_port", "syn_flood", "random_tags")
WAYS = {"testpmd_io": "testpmd io", "spin": "relay,\nidle = spin", "backoff": "relay,\nbackoff"}


def ns(mpps):
    """Nanoseconds per packet."""
    return 1e3 / mpps


def write_values(axes, bars):
    """Writes each bar's value above it, with three digits at least."""
    heights = [bar.get_height() for bar in bars]
    labels = [f"{height:.0f}" if height >= 100 else f"{height:.3g}" for height in heights]
    axes.bar_label(bars, labels, fontsize=7, padding=1)


def draw_groups(axes, names, series):
    """Draws groups of bars. A series has a label, a color, and a value or None for each name."""
    width = 0.8 / len(series)
    for index, (label, color, values) in enumerate(series):
        places = [
            (place + (index - (len(series) - 1) / 2) * width, value)
            for place, value in enumerate(values)
            if value is not None
        ]
        if places:
            write_values(axes, axes.bar(*zip(*places), width, color=color, label=label))
    axes.set_xticks(range(len(names)), names, fontsize=8)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.margins(y=0.12)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def draw_captures(axes, data):
    """Draws the relay beside testpmd for each capture."""
    relay, testpmd = data["relay"], data["testpmd"]
    names = [name for name in relay if name not in OTHERS]
    order = [name for name in ORDER if name in names]
    order += [name for name in names if name not in ORDER]
    one = "one_service_mpps_per_cpu_s"
    series = [
        ("relay", RELAY, [ns(relay[name]["mpps_per_cpu_s"]) for name in order]),
        ("testpmd 5tswap", SWAP, [ns(testpmd[name]["5tswap_mpps_per_cpu_s"]) for name in order]),
        ("testpmd io", IO, [ns(testpmd[name]["io_mpps_per_cpu_s"]) for name in order]),
    ]
    if any(one in relay[name] for name in order):
        ones = [ns(relay[name][one]) if one in relay[name] else None for name in order]
        series.append(("relay, one service", ONE, ones))
    labels = [f"{name}\n{relay[name]['ratio_5tswap']:.3f}" for name in order]
    draw_groups(axes, labels, series)
    axes.set_ylabel("ns of CPU time per packet")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=9)
    machine = data["machine"]
    axes.set_title("anyrelay beside DPDK's testpmd", loc="left", fontsize=11, fontweight="bold")
    axes.set_xlabel("capture or mode; packets per CPU-second, relay / 5tswap", fontsize=8)
    axes.set_title(
        f"{machine['cpu']}, commit {machine['commit']}, rounds: {data['rounds']}",
        loc="right",
        fontsize=8,
    )


def draw_drops(axes, drops):
    """Draws what a dropped packet costs."""
    cases = [case for case in DROPS if case in drops]
    names = ["forwarded"] + [case.replace("_", " ") for case in cases]
    costs = [None] + [drops[case]["ns"] for case in cases]
    draw_groups(axes, names, [("", DROPPED, costs)])
    write_values(axes, axes.bar([0], [drops["forwarded_ns"]], 0.8, color=RELAY))
    axes.set_ylabel("ns of CPU time per packet")
    axes.set_title("dropped packets beside forwarded ones", loc="left", fontsize=10)


def draw_workers(axes, workers):
    """Draws two workers beside one."""
    costs = [ns(workers["one_mpps_per_cpu_s"]), ns(workers["two_mpps_per_cpu_s"])]
    draw_groups(axes, ["one worker", "two workers"], [("", RELAY, costs)])
    axes.set_ylabel("ns of CPU time per packet")
    axes.set_title("workers", loc="left", fontsize=10)


def draw_latency(axes, latency):
    """Draws the latency that a program between two links adds."""
    ways = [way for way in WAYS if way in latency]
    series = [
        (label, color, [latency[way][f"added_{key}_us"] for way in ways])
        for label, key, color in QUANTILES
    ]
    draw_groups(axes, [WAYS[way] for way in ways], series)
    if any(value is not None and value > 0 for _, _, values in series for value in values):
        axes.set_yscale("log")
    axes.set_ylabel("microseconds")
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncol=3, frameon=False, fontsize=8)
    axes.set_title("latency added to a single frame", loc="left", fontsize=10)


def draw_lab(data):
    """Draws what a gigabyte through one POP costs, with and without offloads."""
    lab, machine = data["lab"], data["machine"]
    panels = [("offloads off", ""), ("offloads on", "_offloads")]
    figure = plt.figure(figsize=(13, 4.2), constrained_layout=True)
    for axes, (title, end) in zip(figure.subplots(1, 2, width_ratios=(3, 2)), panels):
        cases = [
            case
            for case, found in lab["download"].items()
            if "pop_cpu_s_per_gb" in found and case.endswith("_offloads") == bool(end)
        ]
        series = [
            (key, color, [lab[key][case]["pop_cpu_s_per_gb"] for case in cases])
            for key, color in (("download", RELAY), ("upload", ONE))
        ]
        names = [case.removesuffix(end).replace("_", "\n", 1) for case in cases]
        draw_groups(axes, names, series)
        axes.set_title(title, loc="left", fontsize=10)
        axes.legend(frameon=False, fontsize=8)
    figure.axes[0].set_ylabel("CPU-seconds of the POP per GB")
    figure.suptitle(
        f"kernel TCP through one POP: {machine['cpu']}, commit {machine['commit']},"
        f" rounds: {data['rounds']}",
        fontsize=9,
    )
    return figure


def draw(data):
    """Draws all that was measured."""
    if "lab" in data:
        return draw_lab(data)
    relay = data["relay"]
    drawers = {"drops": draw_drops, "workers": draw_workers, "latency": draw_latency}
    below = [name for name in OTHERS if name in relay]
    rows = ([["captures"]] if set(relay) - set(OTHERS) else []) + ([below] if below else [])
    figure = plt.figure(figsize=(13, 4.2 * len(rows)), constrained_layout=True)
    figure.get_layout_engine().set(h_pad=0.12, hspace=0.03)
    parts = figure.subfigures(len(rows), 1, squeeze=False)[:, 0]
    for part, row in zip(parts, rows):
        # A narrow panel for the two bars of workers.
        widths = [1 if name == "workers" else 2 for name in row]
        panels = part.subplots(1, len(row), squeeze=False, width_ratios=widths)[0]
        for axes, name in zip(panels, row):
            if name == "captures":
                draw_captures(axes, data)
            else:
                drawers[name](axes, relay[name])
    return figure


def main():
    """Reads the result, writes the figure."""
    if len(sys.argv) != 2:
        sys.exit("usage: plot.py OUT.png < result.json")
    draw(json.load(sys.stdin)).savefig(sys.argv[1], dpi=130)


if __name__ == "__main__":
    main()
