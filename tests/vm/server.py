# SPDX-License-Identifier: LGPL-2.1-or-later
"""A process that serves a VM, for a test to kill: evaluates the lines that it reads."""
import concurrent.futures
import ctypes
import errno
import json
import os
import pathlib
import subprocess
import sys

import czone

MIB = 1 << 20


def attempt(call):
    """(name of the error, its text), or (None, the result)."""
    try:
        return None, call()
    except czone.Error as error:
        return errno.errorcode[error.errno], error.strerror


def together(*calls):
    """What attempt() says of each, all of them begun at once."""
    with concurrent.futures.ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(attempt, calls))


def die(what, after, number):
    """This process dies before or after the so manieth step of a kind; see die-at.c."""
    for name, value in (("die_in", 0), ("die_what", what), ("die_after", after), ("die_in", number)):
        ctypes.c_int.in_dll(ctypes.CDLL(None), name).value = value


def serve(how, directory, options):
    image = pathlib.Path(os.environ["CZONE_MICROVM"])
    if how == "start":
        vm = czone.VM.start(
            state_dir=directory, name="vm", kernel=os.environ["CZONE_KERNEL"],
            initrd=image / "initrd.gz", disks=[f"ro:{image}/rootfs.img"],
            channel=directory + "/exec", cmdline="loglevel=7", **{"pool_bytes": 2 << 30, **options})
    else:
        vm = czone.VM.attach(state_dir=directory, name="vm", **{"timeout": 30, **options})
    names = {"vm": vm, "czone": czone, "die": die, "attempt": attempt, "together": together}
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(eval(line, names), default=str), flush=True)   # of our own test


class Server:
    """Such a process, as seen by a test."""

    def __init__(self, how, directory, **options):
        self.process = subprocess.Popen(
            [sys.executable, "-B", __file__, how, str(directory), json.dumps(options)], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=dict(os.environ, LD_PRELOAD=os.environ.get("CZONE_DIE_AT", "")))
        if self.process.stdout.readline() != "ready\n":
            raise RuntimeError(self.process.communicate(timeout=60)[1])

    def send(self, line):
        """Begin something, without waiting for it."""
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def ask(self, line):
        self.send(line)
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(self.process.communicate(timeout=60)[1])
        return json.loads(answer)

    def kill(self):
        self.process.kill()
        self.process.communicate(timeout=60)


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
