# SPDX-License-Identifier: LGPL-2.1-or-later
"""Each error that the header documents for a call is provoked by a test: documented-errors names it.

usage: documented_errors.py SOURCE_DIR
"""
import pathlib
import re
import sys

CALL = re.compile(r"/\*\*((?:(?!\*/).)*)\*/\s*CZONE_API[^;(]*?\b(czone_\w+)\s*\(", re.DOTALL)
ERROR = re.compile(r"-(E[A-Z0-9]+)\b")


def documented(header):
    """{(call, error)}."""
    return {(call, error) for text, call in CALL.findall(header) for error in ERROR.findall(text)}


def table(text):
    """{(call, error): where}."""
    rows = [line.split(maxsplit=2) for line in text.splitlines() if line and line[0] != "#"]
    found = {(call, error): where for call, error, where in rows}
    assert len(found) == len(rows), "a pair stands there twice"
    return found


def body(path, name):
    """The lines of a test, or of a function: from its name to the end of its block."""
    text = path.read_text(encoding="utf-8")
    if not name:
        return text
    if path.suffix == ".py":
        found = re.search(rf"^def {name}\(.*?(?=^\S|\Z)", text, re.DOTALL | re.MULTILINE)
    else:
        # of several suites there may be one of this name
        found = re.finditer(rf"^(?:Test\(\w+, {name}\b|static void {name}\().*?^}}", text,
                            re.DOTALL | re.MULTILINE)
        return "\n".join(match[0] for match in found) or None
    return found[0] if found else None


def wrong(source, pair, where):
    """What is wrong with a row, or None."""
    if where.startswith("- "):
        return None
    file, _, name = where.partition(":")
    path = source / file
    if not path.is_file():
        return f"no file {file}"
    text = body(path, name)
    if text is None:
        return f"no {name} in {file}"
    return None if re.search(rf"\b{pair[1]}\b", text) else f"{where} does not mention {pair[1]}"


def main(source):
    header = (source / "include/czone.h").read_text(encoding="utf-8")
    rows = table((source / "tests/unit/documented-errors").read_text(encoding="utf-8"))
    pairs = documented(header)
    assert len(pairs) > 50, "the header has not been understood"
    faults = [f"{call} {error}: no test is named" for call, error in sorted(pairs - set(rows))]
    faults += [f"{call} {error}: the header does not say so" for call, error in sorted(set(rows) - pairs)]
    for pair in sorted(pairs & set(rows)):
        fault = wrong(source, pair, rows[pair])
        if fault:
            faults.append(f"{pair[0]} {pair[1]}: {fault}")
    print("\n".join(faults) or f"{len(pairs)} errors of {len({c for c, _ in pairs})} calls")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1])))
