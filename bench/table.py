# SPDX-License-Identifier: LGPL-2.1-or-later
"""Results of a run, as tables in Markdown.

usage: script/bench --table FILE
"""
import json
import pathlib
import sys

# What belongs to the run, not to one result.
COMMON = "kernel", "qemu", "host"


def number(value):
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def met(value, goal):
    relation, limit = goal.split()
    return value <= float(limit) if relation == "<=" else value >= float(limit)


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    results = json.loads(pathlib.Path(sys.argv[1]).read_text(encoding="utf-8"))
    for key in COMMON:
        values = {str(r["conditions"].get(key, "-")) for r in results}
        print(f"{key}: {', '.join(sorted(values))}  ")
    print("\n| name | median | unit | least .. greatest | runs | goal | |")
    print("|---|--:|---|--:|--:|---|---|")
    for r in results:
        goal = r["conditions"].get("goal", "")
        verdict = ("met" if met(r["value"], goal) else "**missed**") if goal else ""
        low, high = map(number, r["spread"])
        print(f"| `{r['name']}` | {number(r['value'])} | {r['unit']} | {low} .. {high} | "
              f"{r['runs']} | {goal} | {verdict} |")


if __name__ == "__main__":
    main()
