# SPDX-License-Identifier: LGPL-2.1-or-later
"""Puts a run's results into the documentation.

usage: script/bench --document [RESULTS.json]

Keeps RESULTS.json as docs/results.json, one result a line; draws docs/plots/; and fills the
tables of docs/results.md, each between <!-- WHAT ARGUMENTS --> and <!-- end -->. Without
a file it does so anew from what is kept. The words around the tables are a person's.
"""
import fnmatch
import html
import json
import pathlib
import re
import sys

from table import met, number

MIB = 1 << 20
DOCS = pathlib.Path(__file__).resolve().parents[1] / "docs"
GOALS = [   # as issues name them
    "destroy_1gib_over_punch", "destroy_1gib_insn_over_virtio_mem", "destroy_1gib_insn_over_balloon",
    "create_512mib_insn_over_virtio_mem", "fault_insn_overhead_in_zone",
    "fault_insn_overhead_no_zone", "fault_insn_first_touch_ratio", "report_1gib_2mib_over_punch",
    "report_1gib_4kib_over_punch", "flood_delay_ms", "startup_reduction_vs_template",
    "overhead_reduction_at_32", "returned_share_min", "neighbour_p99_ratio",
    "azure_area_reduction_vs_virtio_mem", "azure_area_reduction_vs_scpv"]
# Methods of return_methods, as a reader knows them.
METHODS = {"destroy": "CZone destroy", "reclaim": "CZone reclaim", "balloon": "balloon",
           "reporting": "free page reporting", "virtio_mem": "virtio-mem", "dimm": "DIMM unplug"}
BLOCK = re.compile(r"(<!-- (\w+)(?: ([^\n]*?))? -->\n)(?:.*?\n)??(<!-- end -->)", re.S)


def shown(value, unit):
    """(a value, its unit) in a size that can be read."""
    if unit == "bytes":
        return (f"{value / MIB:.2f}", "MiB") if abs(value) < 1e5 * MIB else \
               (f"{value / MIB / 1024:,.0f}", "GiB")
    if unit == "share":
        return f"{100 * value:.2f}", "%"
    if unit == "insn" and abs(value) >= 1e6:
        return f"{value / 1e6:,.2f}", "M insn"
    return number(value), unit


def table(head, rows):
    """Markdown: the first column to the left, the others to the right."""
    return "\n".join(["| " + " | ".join(head) + " |", "|---" + "|--:" * (len(head) - 1) + "|"] +
                     ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


class Run:
    """A run's results."""

    def __init__(self, rows):
        self.rows = rows
        self.by_name = {r["name"]: r for r in rows}

    def cell(self, name, with_unit=False):
        if name not in self.by_name:
            return "-"
        value, unit = shown(self.by_name[name]["value"], self.by_name[name]["unit"])
        return f"{value} {unit}" if with_unit else value

    def matching(self, *patterns):
        """In the order of the patterns, then of the run; a pattern with ! takes away."""
        found = {}
        for p in patterns:
            if p.startswith("!"):
                for name in fnmatch.filter(list(found), p[1:]):
                    del found[name]
                continue
            for r in self.rows:
                if fnmatch.fnmatchcase(r["name"], p):
                    found[r["name"]] = r
        return list(found.values())

    def numbers(self, pattern):
        return sorted({int(m[1]) for r in self.rows if (m := re.fullmatch(pattern, r["name"]))})

    # What may stand in the document, by name.

    def run(self):
        """Where and how it was measured."""
        of_run = next((r["conditions"] for r in self.rows if r["name"] == "bench_minutes"), {})
        lines = [("Command", f"`{of_run['command']}`")] if "command" in of_run else []
        if of_run:
            lines.append(("Date, time taken", f"{of_run['date']}, "
                          f"{self.by_name['bench_minutes']['value']:.0f} minutes"))
            lines += [(key, value) for key, value in of_run["versions"].items()]
            lines.append(("Failed", ", ".join(of_run["failed"]) or "nothing"))
        for key, label in ("kernel", "Guest kernel"), ("qemu", "QEMU"), ("host", "Host"):
            values = sorted({str(r["conditions"][key]) for r in self.rows if key in r["conditions"]})
            lines.append((label, ", ".join(values)))
        loads = [r["conditions"]["load"] for r in self.rows if "load" in r["conditions"]]
        if loads:
            lines.append(("Load average of the host when a measurement began",
                          f"{min(loads)} to {max(loads)}"))
        lines.append(("Results", f"{len(self.rows)}, all of them in [results.json](results.json)"))
        return table(["run", ""], lines).replace("|--:|", "|---|")

    def results(self, *patterns):
        """Each result in a row."""
        rows = []
        for r in self.matching(*patterns):
            goal = r["conditions"].get("goal", "")
            verdict = ("met" if met(r["value"], goal) else "**missed**") if goal else ""
            value, unit = shown(r["value"], r["unit"])
            low, high = (shown(v, r["unit"])[0] for v in r["spread"])
            if shown(r["spread"][0], r["unit"])[1] != unit or shown(r["spread"][1], r["unit"])[1] != unit:
                low, high = (" ".join(shown(v, r["unit"])) for v in r["spread"])
            spread = f"{low} .. {high}" if r["runs"] > 1 else ""
            if goal:
                relation, limit = goal.split()
                goal = f"{relation} {shown(float(limit), r['unit'])[0]}"
            rows.append([f"`{r['name']}`", f"{value} {unit}".replace(" ratio", ""), spread,
                         str(r["runs"]), f"{goal} {verdict}".strip()])
        return table(["result", "median", "least .. greatest", "runs", "goal"], rows)

    def goals(self):
        """The figures that issues name."""
        missing = [name for name in GOALS if name not in self.by_name]
        rest = f"\nNot measured in this run: {', '.join(missing)}.\n" if missing else ""
        return self.results(*GOALS) + rest

    def startup(self):
        """By the number of containers."""
        numbers = self.numbers(r"startup_czone_ms_(\d+)")
        rows = []
        for label, what in (("until the first instruction", "ms"), ("with its own init", "init_ms"),
                            ("warm", "warm_ms"), ("raw clock, emulated", "clock_ms")):
            for way, of in ("cold", "microVM, booted"), ("template", "microVM, template"), \
                           ("czone", "zone"):
                names = [f"startup_{way}_{what}_{n}" for n in numbers]
                if any(n in self.by_name for n in names):
                    rows.append([f"{of}: {label}"] + [self.cell(n) for n in names])
        return table(["ms, by containers that live", *map(str, numbers)], rows)

    def memory(self):
        """By size of the function and number of containers."""
        numbers = self.numbers(r"memory_czone_\d+mib_(\d+)")
        rows = []
        for mib in self.numbers(r"memory_czone_(\d+)mib_\d+"):
            for what, label in ("memory", "total"), ("overhead", "above the function's own"):
                for way, of in ("cold", "microVM, booted"), ("template", "microVM, template"), \
                               ("czone", "zone"):
                    names = [f"{what}_{way}_{mib}mib_{n}" for n in numbers]
                    if any(n in self.by_name for n in names):
                        rows.append([f"{mib} MiB function, {of}: {label}"] +
                                    [self.cell(n) for n in names])
                rows.append([f"**reduction against the template: {label}, %**"] +
                            [self.cell(f"{what}_reduction_{mib}mib_{n}") for n in numbers])
        return table(["MiB per container, by containers that live", *map(str, numbers)], rows)

    def split(self):
        """Where the memory of the most containers lies."""
        found = {}
        for r in self.rows:
            if m := re.fullmatch(r"memory_split_(template|czone)_(\w+)_(\d+)mib_(\d+)", r["name"]):
                found.setdefault((int(m[3]), int(m[4]), m[1]), {})[m[2]] = self.cell(r["name"])
        parts = list(dict.fromkeys(part for row in found.values() for part in row))
        rows = [[f"{mib} MiB function, {'zones' if way == 'czone' else 'microVMs'}"] +
                [row.get(part, "") for part in parts] for (mib, _, way), row in sorted(found.items())]
        return table(["MiB per container", *(p.replace("_", " ") for p in parts)], rows)

    def functions(self):
        names = sorted({m[1] for r in self.rows
                        if (m := re.fullmatch(r"function_(\w+)_private", r["name"]))})
        keys = ("first_insn", "init_insn", "call_insn", "private", "peak", "host_resident", "reclaimed",
                "returned")
        rows = [[name.replace("_", " "), *(self.cell(f"function_{name}_{k}", k.endswith("insn"))
                                           for k in keys)] for name in names]
        return table(["function", "to its first instruction", "its init", "one call", "private, MiB",
                      "peak, MiB", "host, MiB", "reclaimed idle, MiB", "returned in all, MiB"], rows)

    def returns(self, what):
        """One measure of all ways to return memory."""
        found = [re.fullmatch(rf"return_([a-z_]+?)_(\d+)mib_(clean|interleaved|loaded)_{what}",
                              r["name"]) for r in self.rows]
        found = [m for m in found if m and m[1] in METHODS]
        methods = [m for m in METHODS if any(f[1] == m for f in found)]
        rows = []
        for state in "clean", "interleaved", "loaded":
            for mib in sorted({int(f[2]) for f in found if f[3] == state}):
                row = [f"{mib} MiB, {state}"]
                for m in methods:
                    row.append(self.cell(f"return_{m}_{mib}mib_{state}_{what}", what == "insn"))
                if what in ("ms", "host_ms"):
                    row.append(self.cell(f"return_punch_{mib}mib_ms"))
                rows.append(row)
        unit = {"share": "%", "insn": "guest instructions"}.get(what, "ms")
        head = [unit, *(METHODS[m] for m in methods)]
        return table(head + (["bare punch"] if what in ("ms", "host_ms") else []), rows)


def fill(text, rows):
    """The document with its tables."""
    run = Run(rows)

    def block(m):
        name, arguments = m[2], html.unescape(m[3] or "").split()
        if name.startswith("_") or name in ("cell", "matching", "numbers") or not hasattr(Run, name):
            raise ValueError(f"there is no '{name}' to be put into a document")
        return f"{m[1]}\n{getattr(run, name)(*arguments)}\n{m[4]}"

    return BLOCK.sub(block, text)


def lines(rows):
    """JSON, one result a line."""
    return "[\n" + ",\n".join(json.dumps(r, separators=(", ", ": ")) for r in rows) + "\n]\n"


def main():
    import report           # pylint: disable=import-outside-toplevel
    if len(sys.argv) > 2 or sys.argv[1:2] in (["-h"], ["--help"]):
        sys.exit(__doc__)
    kept = DOCS / "results.json"
    rows = json.loads(pathlib.Path(sys.argv[1] if sys.argv[1:] else kept).read_text("utf-8"))
    kept.write_text(lines(rows), "utf-8")
    plots = DOCS / "plots"
    plots.mkdir(exist_ok=True)
    _, names = report.page(rows, plots)
    document = DOCS / "results.md"
    document.write_text(fill(document.read_text("utf-8"), rows), "utf-8")
    print(f"{document}: {len(rows)} results; plots: {', '.join(names)}")


if __name__ == "__main__":
    main()
