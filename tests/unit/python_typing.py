#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The stubs: as the package is, and of use to those who check their programs with mypy."""

import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

import czone

USER = '''
import asyncio
import dataclasses
import subprocess
from pathlib import Path
from typing import Dict, List, Optional

import czone

Row = Dict[str, object]


def rows(vm: czone.VM) -> List[Row]:
    return [dataclasses.asdict(zone.stats()) for zone in vm]


def back(vm: czone.VM, cgroup: Path) -> int:
    with vm.create(64 << 20, cgroup=cgroup, spill=True) as zone:
        with zone.spawn(["sleep", "1"], env={"A": "b"}, stdout=subprocess.DEVNULL) as process:
            status: int = process.wait(5)
        try:
            return zone.reclaim(timeout=1.5) + status
        except czone.Error as error:
            resident: Optional[int] = zone.stats().host_resident
            return error.returned or resident or error.errno or 0


async def wait(zone: czone.Zone) -> int:
    return await zone.reclaim_async() + (await zone.destroy_async()).returned


with czone.open("test:///default") as test:
    print(rows(test), back(test, Path("/a")), test.stats().pool_size + 1)
    asyncio.run(wait(test.create(czone.BLOCK)))
with czone.VM.start(state_dir=Path("/x"), kernel="k", kvm=czone.Kvm.OFF) as started:
    started.detach()
'''

# Each of these is an error that mypy finds.
WRONG = [
    "czone.open(3)",
    "czone.open().create('64M')",
    "czone.open().create(1, colour='red')",
    "czone.VM.start(kernel='k')",
    "czone.open().stats().host_pool + 1",
    "czone.open().create(1).spawn('sleep 1').wait('5')",
    "czone.open().nothing()",
]


class Stubs(unittest.TestCase):
    def check(self, source):
        """What mypy says of a program."""
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, "user.py")
            pathlib.Path(path).write_text(source, encoding="utf-8")
            return subprocess.run(
                ["/usr/bin/mypy", "--strict", "--python-executable", sys.executable,
                 "--cache-dir", os.path.join(directory, "cache"), path],
                stdout=subprocess.PIPE, text=True, timeout=100, check=False)

    def test_a_program_is_accepted(self):
        result = self.check(USER)
        self.assertEqual(result.returncode, 0, result.stdout)

    def test_mistakes_are_found(self):
        source = "import czone\n" + "\n".join(WRONG) + "\n"
        result = self.check(source)
        for number, line in enumerate(WRONG, 2):
            self.assertIn(f"user.py:{number}: error", result.stdout, line)

    def test_they_are_as_the_package_is(self):
        root = os.path.dirname(os.path.dirname(czone.__file__))
        with tempfile.TemporaryDirectory() as directory:
            result = subprocess.run(
                ["/usr/bin/stubtest", "czone", "--ignore-missing-stub", "--concise"], cwd=directory,
                env=dict(os.environ, MYPYPATH=root, PYTHONPATH=root), stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, text=True, timeout=100, check=False)
        self.assertEqual(result.returncode, 0, result.stdout)


if __name__ == "__main__":
    unittest.main()
