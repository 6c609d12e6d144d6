# SPDX-License-Identifier: LGPL-2.1-or-later
"""Results of a run as one HTML file with its plots, which needs no server and no network.

usage: script/bench --report RESULTS.json OUT.html [--plots DIRECTORY]

Takes any list of {name, value, unit, spread, runs, conditions}: a section appears where its
results are there, and the last table has all of them. --plots also writes each plot as a
file.
"""
import argparse
import html
import io
import json
import pathlib
import re

import matplotlib
import matplotlib.ticker
matplotlib.use("Agg")
import matplotlib.pyplot as plt     # noqa: E402  pylint: disable=wrong-import-position

from table import COMMON, met, number   # noqa: E402  pylint: disable=wrong-import-position

# Colours that those who see red and green alike can tell apart (Okabe and Ito).
BLUE, ORANGE, GREEN, YELLOW, PURPLE, SKY, GREY = (
    "#0072b2", "#d55e00", "#009e73", "#e69f00", "#cc79a7", "#56b4e9", "#777777")
MIB = 1 << 20
WAYS = {"cold": ("microVM, booted", GREY), "template": ("microVM, from a template", ORANGE),
        "czone": ("zone in a running VM", BLUE)}
METHODS = {"destroy": ("CZone destroy", BLUE), "reclaim": ("CZone reclaim", SKY),
           "balloon": ("virtio-balloon", ORANGE), "reporting": ("free page reporting", YELLOW),
           "virtio_mem": ("virtio-mem", GREEN), "dimm": ("DIMM unplug", PURPLE)}
POLICIES = {"scpv": ("one container per VM (template)", ORANGE),
            "none": ("many per VM, nothing returned", GREY),
            "virtio_mem": ("many per VM, virtio-mem", GREEN),
            "czone": ("many per VM, CZone", BLUE), "live": ("what live functions hold", "#000000")}
STATES = "clean", "interleaved", "loaded"

plt.rcParams.update({
    "font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
    "axes.axisbelow": True, "grid.color": "#dddddd", "grid.linewidth": 0.6,
    "legend.frameon": False, "svg.fonttype": "none", "figure.constrained_layout.use": True,
    "svg.hashsalt": "czone"})


class Results:
    """The list, by name."""

    def __init__(self, rows):
        self.rows = rows
        self.by_name = {r["name"]: r for r in rows}

    def value(self, name):
        return self.by_name[name]["value"] if name in self.by_name else None

    def found(self, pattern):
        """[(groups, result)] of the names that match all of the pattern."""
        return [(m.groups(), r) for r in self.rows
                if (m := re.fullmatch(pattern, r["name"]))]


def grouped(axes, labels, series, unit, log=False):
    """Bars side by side: series is [(label, colour, values)], None where there is no value."""
    width = 0.8 / len(series)
    for i, (label, colour, values) in enumerate(series):
        at = [j - 0.4 + width * (i + 0.5) for j in range(len(labels))]
        shown = [v if v is not None else 0 for v in values]
        axes.bar(at, shown, width * 0.92, label=label, color=colour)
    axes.set_xticks(range(len(labels)), labels)
    axes.grid(axis="x", visible=False)
    axes.set_ylabel(unit)
    if log:
        axes.set_yscale("log")


def plot_startup(r):
    """Memory per container as bars, latency as lines: the paper's first figure."""
    numbers = sorted({int(g[1]) for g, _ in r.found(r"startup_(template|czone)_ms_(\d+)")})
    sizes = sorted({int(g[0]) for g, _ in r.found(r"memory_czone_(\d+)mib_\d+")})
    if not numbers or not sizes:
        return None
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4))
    # one was measured for all numbers, the others where all run
    size = max(sizes, key=lambda s: len(r.found(rf"memory_czone_{s}mib_\d+")))
    series = []
    for way, (label, colour) in WAYS.items():
        values = [r.value(f"memory_{way}_{size}mib_{n}") for n in numbers]
        if any(v is not None for v in values):
            series.append((label, colour, [v / MIB if v else None for v in values]))
    grouped(left, [str(n) for n in numbers], series, "host memory per container, MiB")
    left.axhline(size, color="black", linewidth=1, linestyle="--",
                 label=f"the function's own, {size} MiB")
    left.set_xlabel("containers that live at the same time")
    left.set_ylim(0, left.get_ylim()[1] * 1.45)
    left.legend(loc="upper right", fontsize=8.5)
    for way, (label, colour) in WAYS.items():
        values = [r.value(f"startup_{way}_ms_{n}") for n in numbers]
        if None not in values:
            right.plot(range(len(numbers)), values, marker="o", color=colour, label=label)
            right.annotate(f"{values[-1]:.3g} ms", (len(numbers) - 1, values[-1]), (0, 7),
                           textcoords="offset points", ha="right", color=colour)
    right.set_xticks(range(len(numbers)), [str(n) for n in numbers])
    right.set_yscale("log")
    right.set_ylabel("startup latency, ms (log)")
    right.set_xlabel("containers that live at the same time")
    right.set_ylim(right.get_ylim()[0] * 0.7, right.get_ylim()[1] * 12)
    right.yaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
    right.legend(loc="upper right", fontsize=8.5)
    return figure


def plot_sizes(r):
    """Whose memory it is, for functions of several sizes."""
    most = max((int(g[1]) for g, _ in r.found(r"overhead_czone_(\d+)mib_(\d+)")), default=0)
    sizes = sorted({int(g[0]) for g, _ in r.found(rf"overhead_czone_(\d+)mib_{most}")})
    if len(sizes) < 2:
        return None
    figure, axes = plt.subplots(figsize=(6.5, 3.6))
    ways = [w for w in ("template", "czone")]
    for i, way in enumerate(ways):
        at = [j + (i - 0.5) * 0.36 for j in range(len(sizes))]
        total = [r.value(f"memory_{way}_{s}mib_{most}") / MIB for s in sizes]
        over = [r.value(f"overhead_{way}_{s}mib_{most}") / MIB for s in sizes]
        own = [t - o for t, o in zip(total, over)]
        axes.bar(at, own, 0.33, color="#cccccc", label="the function's own" if not i else None)
        axes.bar(at, over, 0.33, bottom=own, color=WAYS[way][1], label="above it: " + WAYS[way][0])
        for x, t, o in zip(at, total, over):
            axes.text(x, t, f"+{o:.1f}", ha="center", va="bottom", fontsize=9)
    axes.set_xticks(range(len(sizes)), [f"{s} MiB" for s in sizes])
    axes.grid(axis="x", visible=False)
    axes.set_xlabel(f"function's own memory; {most} containers")
    axes.set_ylabel("host memory per container, MiB")
    axes.legend(loc="upper left", fontsize=8.5)
    return figure


def plot_functions(r):
    """Each function's memory in its container."""
    rows = [(g[0], row["value"] / MIB) for g, row in r.found(r"function_(\w+)_private")]
    if not rows:
        return None
    names = [name for name, _ in rows]
    figure, axes = plt.subplots(figsize=(8, 0.8 + 0.34 * len(names)))
    at = range(len(names))
    peak = [r.value(f"function_{n}_host_resident") / MIB for n in names]
    axes.barh([i + 0.2 for i in at], [v for _, v in rows], 0.36, color=BLUE,
              label="anonymous memory of the process")
    axes.barh([i - 0.2 for i in at], peak, 0.36, color=SKY, label="host memory behind its zone")
    axes.set_yticks(at, [n.replace("_", " ") for n in names])
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("MiB")
    axes.set_xlim(0, max(peak) * 1.5)
    axes.legend(loc="lower right", fontsize=8.5)
    return figure


def plot_return(r, what, unit, title):
    """One measure of all ways to return memory, by size and state."""
    found = r.found(rf"return_(destroy|reclaim|balloon|reporting|virtio_mem|dimm)_(\d+)mib_(\w+?)_{what}")
    if not found:
        return None
    sizes = sorted({int(g[1]) for g, _ in found})
    states = [s for s in STATES if any(g[2] == s for g, _ in found)]
    methods = [m for m in METHODS if any(g[0] == m for g, _ in found)]
    figure, all_axes = plt.subplots(1, len(states), figsize=(2 + 2.9 * len(states), 3.6),
                                    sharey=True, squeeze=False)
    for axes, state in zip(all_axes[0], states):
        series = []
        for m in methods:
            values = [r.value(f"return_{m}_{s}mib_{state}_{what}") for s in sizes]
            if what != "share":     # a bar on a logarithmic axis needs something
                values = [None if v is None else max(v, 0.1) for v in values]
            series.append((METHODS[m][0], METHODS[m][1], values))
        grouped(axes, [f"{s} MiB" for s in sizes], series, "", log=what != "share")
        axes.set_title(state, fontsize=10)
    all_axes[0][0].set_ylabel(f"{title}, {unit}" if unit else title)
    handles, labels = all_axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(methods), fontsize=8.5) \
        if matplotlib.__version_info__ >= (3, 7) else \
        all_axes[0][-1].legend(fontsize=7.5, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def plot_azure(r, prefix):
    """Host memory over time."""
    found = {g[0]: row for g, row in r.found(rf"{prefix}_memory_(\w+)")
             if "series" in row["conditions"]}
    if not found:
        return None
    figure, axes = plt.subplots(figsize=(8.5, 3.8))
    for policy in (p for p in POLICIES if p in found):
        label, colour = POLICIES[policy]
        series = found[policy]["conditions"]["series"]
        axes.plot([t for t, _ in series], [b / (1 << 30) for _, b in series], color=colour,
                  label=label, linewidth=1.5, linestyle="--" if policy == "live" else "-")
    axes.set_xlabel(found[next(iter(found))]["conditions"].get("time_unit", "s"))
    axes.set_ylabel("host memory, GiB")
    axes.set_ylim(0, axes.get_ylim()[1] * 1.35)
    axes.legend(ncols=2, fontsize=8.5, loc="upper right")
    return figure


def plot_neighbours(r):
    """What others notice."""
    found = [(g[0], row["value"]) for g, row in r.found(r"neighbour_p99_ratio_(\w+)")]
    own = r.value("neighbour_p99_ratio")
    if own is None:
        return None
    found = [("destroy", own)] + found
    figure, axes = plt.subplots(figsize=(6.5, 3))
    labels = [METHODS.get(name, (name,))[0] for name, _ in found]
    axes.bar(labels, [v for _, v in found], 0.5,
             color=[METHODS.get(name, ("", GREY))[1] for name, _ in found])
    for i, (_, v) in enumerate(found):
        axes.text(i, v, f"{v:.3f}", ha="center", va="bottom")
    axes.axhline(1, color="black", linewidth=1)
    axes.grid(axis="x", visible=False)
    axes.set_ylabel("p99 latency of neighbours\nover undisturbed")
    return figure


def plot_scale(r):
    """Zones per VM against the cost of one more."""
    numbers = sorted({int(g[0]) for g, _ in r.found(r"scale_create_insn_(\d+)")})
    if not numbers:
        return None
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4))
    for what, colour in ("create", BLUE), ("destroy", ORANGE):
        left.plot(numbers, [r.value(f"scale_{what}_insn_{n}") / 1e3 for n in numbers], marker="o",
                  color=colour, label=what)
    left.set_xscale("log", base=2)
    left.set_xticks(numbers, [str(n) for n in numbers])
    left.set_ylim(0, left.get_ylim()[1] * 1.2)
    left.set_xlabel("zones in the VM")
    left.set_ylabel("thousand guest instructions")
    left.legend()
    values = [r.value(f"scale_zone_bytes_{n}") for n in numbers]
    right.plot(numbers, [None if v is None else v / 1024 for v in values], marker="o", color=BLUE)
    right.set_xscale("log", base=2)
    right.set_xticks(numbers, [str(n) for n in numbers])
    right.set_ylim(0, right.get_ylim()[1] * 1.2)
    right.set_xlabel("zones in the VM")
    right.set_ylabel("host memory per empty zone, KiB")
    return figure


SECTIONS = [
    ("startup", "One container per VM against many", plot_startup,
     "Bars: PSS of all VMMs by the number of containers, without the emulator's translated code. "
     "Lines: from the request to the container's first own instruction; host work timed, guest "
     "work counted in instructions and converted at the rate that the same binaries reach natively."),
    ("sizes", "Where the function's own memory hides the difference", plot_sizes,
     "Numbers above the bars: MiB over and above the function's own."),
    ("functions", "The functions", plot_functions, "Measured in containers of Python 3 run by crun."),
    ("return-insn", "Returning memory: guest instructions",
     lambda r: plot_return(r, "insn", "log", "guest instructions"),
     "All that the guest executes while the memory comes back; 0 is drawn as 0.1."),
    ("return-host", "Returning memory: host CPU",
     lambda r: plot_return(r, "host_ms", "ms (log)", "system time"),
     "System time of the VMM, and CPU time of the process that serves the device."),
    ("return-ms", "Returning memory: the clock",
     lambda r: plot_return(r, "ms", "ms (log)", "time"),
     "By the clock. Under TCG this is far too long for what the guest does."),
    ("return-share", "Returning memory: how much comes back",
     lambda r: plot_return(r, "share", "", "share returned"), "Of what was dirtied and freed."),
    ("neighbours", "What neighbours notice", plot_neighbours,
     "99th percentile of request latency while 1 GiB is given back, by the guest's clock."),
    ("replay", "Azure Functions Trace 2019, replayed", lambda r: plot_azure(r, "azure_replay"),
     "Real VMs; the trace compressed in time."),
    ("simulation", "Azure Functions Trace 2019, a simulated day",
     lambda r: plot_azure(r, "azure_sim"), "Simulated, with costs from measured runs."),
    ("scale", "Zones per VM", plot_scale, "The cost of one more zone beside so many."),
]

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62em; margin: 2em auto; padding: 0 1em;
       color: #222 } h1 { font-size: 1.6em } h2 { font-size: 1.25em; margin-top: 2em }
svg { max-width: 100%; height: auto } figcaption { color: #555; font-size: .9em }
figure { margin: 1em 0 } table { border-collapse: collapse; font-size: .88em }
td, th { padding: .2em .7em; border-bottom: 1px solid #ddd; text-align: right }
td:first-child, th:first-child { text-align: left; font-family: monospace }
.met { color: #006b4f } .missed { color: #b33c00; font-weight: bold }
"""


def svg(figure):
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None})
    text = out.getvalue()
    return text[text.index("<svg"):]


def table(rows):
    cells = []
    for r in rows:
        goal = r["conditions"].get("goal", "")
        verdict = ("met" if met(r["value"], goal) else "missed") if goal else ""
        low, high = map(number, r["spread"])
        cells.append(
            f"<tr><td>{html.escape(r['name'])}<td>{number(r['value'])}<td>{html.escape(r['unit'])}"
            f"<td>{low} .. {high}<td>{r['runs']}<td>{html.escape(goal)}"
            f"<td class='{verdict}'>{verdict}</tr>")
    return ("<table><tr><th>name<th>median<th>unit<th>least .. greatest<th>runs<th>goal<th></tr>"
            + "\n".join(cells) + "</table>")


def page(rows, plots=None):
    """The HTML, and the names of its sections."""
    results, parts, names = Results(rows), [], []
    for name, title, plot, caption in SECTIONS:
        figure = plot(results)
        if figure is None:
            continue
        names.append(name)
        if plots:
            figure.savefig(pathlib.Path(plots) / f"{name}.svg", metadata={"Date": None})
        parts.append(f"<section id='{name}'><h2>{html.escape(title)}</h2><figure>{svg(figure)}"
                     f"<figcaption>{html.escape(caption)}</figcaption></figure></section>")
        plt.close(figure)
    where = ""
    for key in COMMON:
        found = sorted({str(r["conditions"].get(key, "-")) for r in rows})
        where += f"<br>{key}: {html.escape(', '.join(found))}"
    loads = [r["conditions"]["load"] for r in rows if "load" in r["conditions"]]
    if loads:
        where += f"<br>load of the machine when a measurement began: {min(loads)} to {max(loads)}"
    goals = [r for r in rows if "goal" in r["conditions"]]
    body = "\n".join(parts)
    return (f"<!DOCTYPE html><html lang='en'><meta charset='utf-8'><title>libczone: results</title>"
            f"<style>{STYLE}</style><h1>libczone: results of a run</h1><p>{len(rows)} results."
            f"{where}</p><section id='goals'><h2>Goals</h2>{table(goals)}</section>{body}"
            f"<section id='all'><h2>All results</h2>{table(rows)}</section></html>\n"), names


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results")
    parser.add_argument("out")
    parser.add_argument("--plots", metavar="DIRECTORY")
    args = parser.parse_args()
    rows = json.loads(pathlib.Path(args.results).read_text(encoding="utf-8"))
    if args.plots:
        pathlib.Path(args.plots).mkdir(parents=True, exist_ok=True)
    text, names = page(rows, args.plots)
    pathlib.Path(args.out).write_text(text, encoding="utf-8")
    print(f"{args.out}: {', '.join(names) or 'no plots'}, {len(rows)} results")


if __name__ == "__main__":
    main()
