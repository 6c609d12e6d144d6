# SPDX-License-Identifier: LGPL-2.1-or-later
"""Several measurements, one after another, and their results in one list."""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("name", nargs="+")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--runs", type=int)
    args = parser.parse_args()
    options = ["--quick"] if args.quick else []
    if args.runs:
        options += ["--runs", str(args.runs)]

    results, failed, start = [], [], time.monotonic()
    for i, name in enumerate(args.name):
        print(f"== {name} ({i + 1} of {len(args.name)}, {time.monotonic() - start:.0f} s so far)",
              flush=True)
        with tempfile.NamedTemporaryFile("r", suffix=".json") as f:
            # each in a process of its own: libvirt's embedded driver lives as long as that
            if subprocess.run([sys.executable, "-B", HERE / f"{name}.py", "--json", f.name,
                               *options], check=False).returncode:
                failed.append(name)
            else:
                results += json.load(f)
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
