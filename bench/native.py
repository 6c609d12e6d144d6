# SPDX-License-Identifier: LGPL-2.1-or-later
"""What starting a function's container takes natively: the same crun, image and bundle.

usage: unshare --mount --pid --fork python3 native.py IMAGE RUNS

In namespaces of its own, with the root of the guest laid out anew on a tmpfs. Prints, as JSON, the
CPU seconds of each run until the container's first instruction, of its initialisation, and
the wall-clock seconds of both. Guest instructions by these seconds are the rate at which
guest work is converted to time.
"""
import json
import os
import pathlib
import resource
import signal
import subprocess
import sys
import tempfile
import time

import oci

FUNCTION = "ballast"


def mount(*arguments, check=True):
    return subprocess.run(["mount", *arguments], check=check,
                          stderr=None if check else subprocess.DEVNULL).returncode == 0


def lay_out(root, image):
    mount("--make-rprivate", "/")
    mount("-t", "proc", "proc", "/proc")        # of our own PIDs
    mount("-t", "tmpfs", "guest", root)
    for name in "proc", "sys", "dev", "tmp", "images/root", "run/io", "run/b", "run/crun":
        os.makedirs(f"{root}/{name}")
    if not mount("-t", "erofs", "-o", "loop,ro", image, f"{root}/images/root", check=False):
        mount("--bind", f"{os.path.dirname(image)}/root", f"{root}/images/root")
    for name in "usr", "lib", "lib64":
        os.symlink("images/root/usr" if name == "usr" else f"usr/{name}", f"{root}/{name}")
    mount("-t", "proc", "proc", f"{root}/proc")
    mount("--rbind", "/sys", f"{root}/sys")
    mount("--rbind", "/dev", f"{root}/dev")
    # crun wants version 2, whatever this host has
    mount("-t", "cgroup2", "none", f"{root}/sys/fs/cgroup")


def used(pid):
    return int(pathlib.Path(f"/proc/{pid}/schedstat").read_text("ascii").split()[0]) / 1e9


def start(root, n):
    """(CPU to the first instruction, CPU of the initialisation, the same by the clock)"""
    name, io = f"native{n}", f"{root}/run/io/native{n}"
    os.makedirs(f"{root}/run/b/{name}")
    os.makedirs(io)
    for fifo in "marks", "in", "out":
        os.mkfifo(f"{io}/{fifo}")
    pathlib.Path(f"{root}/run/b/{name}/config.json").write_text(oci.config(
        "/images/root", f"/run/io/{name}", ["/usr/bin/entry", "/usr/bin/python3",
                                            "/functions/serve.py", FUNCTION]), "ascii")
    marks = os.open(f"{io}/marks", os.O_RDWR)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin = time.monotonic()
    crun = subprocess.Popen(
        ["chroot", root, "/usr/bin/crun", "--root", "/run/crun", "--cgroup-manager=disabled",
         "run", "-d", "--no-pivot", "--pid-file", f"/run/b/{name}/pid", "-b", f"/run/b/{name}",
         name], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    assert os.read(marks, 1) == b"f"
    first = time.monotonic()
    if crun.wait(60):
        raise RuntimeError("crun failed")
    # by now the interpreter has begun: what it has used so far is small
    pid = int(pathlib.Path(f"{root}/run/b/{name}/pid").read_text("ascii"))
    own = used(pid)
    assert os.read(marks, 1) == b"r"
    ready = time.monotonic()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    parent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    all_of_it = used(pid)
    os.kill(pid, signal.SIGKILL)
    return parent + own, all_of_it - own, first - begin, ready - first


def main():
    image, runs = sys.argv[1], int(sys.argv[2])
    root = tempfile.mkdtemp(prefix="czone-native.")
    try:
        lay_out(root, image)
        rows = [start(root, n) for n in range(runs + 1)][1:]    # the first one reads the image
        keys = "first_cpu", "init_cpu", "first_wall", "init_wall"
        print(json.dumps({k: [row[i] for row in rows] for i, k in enumerate(keys)}))
    finally:
        subprocess.run(["umount", "-R", "-l", root], check=False)
        os.rmdir(root)


if __name__ == "__main__":
    main()
