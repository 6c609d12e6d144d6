# SPDX-License-Identifier: LGPL-2.1-or-later
"""Guests that run function containers: Debian's Python 3, started by crun.

The image is script/build-functions'. Names: a function is a file of functions/, a container
is one instance of it.
"""
import json
import os
import typing

import oci
from microvm import MIB
from vms import LIMIT_S, insn

IMAGE_ZONE = 192 * MIB      # page cache of the image, kept once for all containers
CRUN = "/usr/bin/crun --root /run/crun --cgroup-manager=disabled"


def image():
    return os.environ["CZONE_FUNCTIONS"]


def prepare(guest):
    """Once per guest: the image's crun runs in the guest's own root."""
    guest.run("mkdir -p /run/b /run/io /run/crun; ln -s images/root/usr /usr; "
              "ln -s usr/lib /lib; ln -s usr/lib64 /lib64; test -x /usr/bin/crun")


class Function:
    """A container with a function, by way of the guest's shell. Its zone is the caller's."""

    def __init__(self, guest, name, function, argument=""):
        self.guest, self.name, self.io = guest, name, f"/run/io/{name}"
        self.cgroup = f"/c/{name}"
        args = ["/usr/bin/entry", "/usr/bin/python3", "/functions/serve.py", function]
        config = oci.config("/images/root", self.io, args + ([str(argument)] if argument else []))
        assert "'" not in config
        guest.run(f"mkdir -p /sys/fs/cgroup/c/{name} /run/b/{name} {self.io} && "
                  f"cd {self.io} && mkfifo marks in out && "
                  f"printf %s '{config}' >/run/b/{name}/config.json")

    @property
    def command(self):
        """What starts it, born in its cgroup."""
        return (f"echo 0 >/sys/fs/cgroup{self.cgroup}/cgroup.procs; exec {CRUN} run -d "
                f"--no-pivot -b /run/b/{self.name} {self.name} </dev/null >{self.io}/log 2>&1")

    def start(self, limit=LIMIT_S):
        """Start it: {mark: {insn, ns}} of its first instruction (f) and of its readiness (r).

        insn only where there is one vCPU, and true only where instructions are counted.
        """
        return self._marks(2, self.command, limit)

    def warm(self, limit=LIMIT_S):
        """From a request to the first instruction that serves it, in a container that waits."""
        return self._marks(1, f"echo first >{self.io}/in", limit)["w"]

    def _marks(self, n, command, limit):
        try:
            lines = insn(self.guest, f"marks {n} {self.io}/marks sh -c \"{command}\"")
        except Exception as e:
            raise RuntimeError(f"{self.name}: {e}; {self.log()}") from e
        return dict(lines)

    def log(self):
        return self.guest.run(f"cat {self.io}/log", check=False)[1]

    def call(self, argument="x", limit=LIMIT_S):
        """One invocation, with another argument from now on if it is a number; what serve.py says."""
        status, text = self.guest.run(
            f"timeout {limit} sh -c 'echo {argument} >{self.io}/in & cat {self.io}/out'",
            limit=limit + 10, check=False)
        if status or not text.startswith("{"):
            raise RuntimeError(f"{self.name}: {text}{self.log()}")
        return json.loads(text)

    def stop(self):
        """Kill it, and wait until it is gone."""
        self.guest.run(f"container stop {self.name}; {CRUN} delete -f {self.name}")

    def remove(self):
        self.guest.run(f"rm -r /run/b/{self.name} {self.io}; rmdir /sys/fs/cgroup{self.cgroup}")


class Image:
    """A zone for the page cache of the image, which all containers share."""

    def __init__(self, vm, guest):
        guest.run("mkdir -p /sys/fs/cgroup/c/image")
        self.zone = vm.create(IMAGE_ZONE, cgroup="/c/image")


class Rollup(typing.NamedTuple):
    """PSS of a QEMU, or of several, in bytes."""
    total: int
    code: int       # of it the emulator's translated code
    guest: int      # of it the guest's memory

    @classmethod
    def of(cls, *pids):
        return cls(*map(sum, zip(*map(cls._one, pids))))

    @staticmethod
    def _one(pid):
        sizes, kind = {"code": 0, "guest": 0, "": 0}, ""
        with open(f"/proc/{pid}/smaps", encoding="ascii", errors="replace") as f:
            for line in f:
                key = line.split(":", 1)[0]
                if key == "Pss":
                    sizes[kind] += int(line.split()[1]) << 10
                elif " " in key and "-" in key.split()[0]:
                    fields = line.split()
                    kind = ""
                    if len(fields) < 6:
                        # the only memory that is written and executed, and is no file
                        kind = "code" if "w" in fields[1] and "x" in fields[1] else ""
                    elif fields[5].startswith(("/memfd:", "/dev/shm/czone-template.")):
                        kind = "guest"
        return sum(sizes.values()), sizes["code"], sizes["guest"]


def cpu_seconds(pid):
    """What all threads of a process have used, to the nanosecond."""
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{task}/schedstat", encoding="ascii") as f:
                total += int(f.read().split()[0])
        except FileNotFoundError:
            pass        # it has ended meanwhile
    return total / 1e9
