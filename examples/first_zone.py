#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The life of a zone: create, attach, use, reclaim, statistics, destroy.

    first_zone.py [test:///default | guest:/// | STATE_DIR KERNEL INITRD ROOTFS]

As any user on the test driver, which is the default, as root in a guest, or on a host, with a
VM that it starts, whose guest is that of examples/microvm. What uses memory is a task of the
test driver, a child process, or a container in the VM; all the rest is the same.
"""
import errno
import mmap
import os
import pathlib
import socket
import sys

import czone

MIB = 1 << 20
SIZE, DIRTY, KEEP = 64 * MIB, 32 * MIB, 8 * MIB
CGROUPS = "/sys/fs/cgroup"


class Task:
    """A container on the test driver."""

    cgroup = "/first-zone"

    def __init__(self, vm):
        self.vm, self.task = vm, None

    def use(self):
        self.task = self.vm.start_task(self.cgroup)
        self.task.fill(0, DIRTY, 1)

    def idle(self):
        self.task.discard(KEEP, DIRTY - KEEP)

    def stop(self):
        assert self.task.read(0, DIRTY) == b"\1" * KEEP + bytes(DIRTY - KEEP)
        self.task.exit()

    def remove(self):
        pass


class Child:
    """A container in the guest that we run in: a process of ours."""

    cgroup = "/first-zone"

    def __init__(self, _vm):
        pathlib.Path(CGROUPS, "cgroup.subtree_control").write_text("+memory")
        os.mkdir(CGROUPS + self.cgroup)

    def use(self):
        command, self.to_child = os.pipe()
        self.answer, done = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            os.close(self.to_child)
            os._exit(self._child(command, done))
        os.close(command)
        os.close(done)
        assert os.read(self.answer, 1) == b"u", "the child has failed"

    def _child(self, command, done):
        memory = mmap.mmap(-1, DIRTY, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        pathlib.Path(CGROUPS + self.cgroup, "cgroup.procs").write_text("0")
        piece = b"\1" * mmap.PAGESIZE
        for start in range(0, DIRTY, mmap.PAGESIZE):
            memory[start:start + mmap.PAGESIZE] = piece
        os.write(done, b"u")
        while os.read(command, 1):
            memory.madvise(mmap.MADV_DONTNEED, KEEP, DIRTY - KEEP)
            os.write(done, b"i")
        return any(memory[i:i + mmap.PAGESIZE] != (piece if i < KEEP else bytes(mmap.PAGESIZE))
                   for i in range(0, DIRTY, mmap.PAGESIZE))

    def idle(self):
        os.write(self.to_child, b"i")
        assert os.read(self.answer, 1) == b"i", "the child has failed"

    def stop(self):
        os.close(self.to_child)
        assert os.waitpid(self.pid, 0)[1] == 0, "the container lost memory"
        os.close(self.answer)

    def remove(self):
        os.rmdir(CGROUPS + self.cgroup)


class Container:
    """A container in a VM, by its init's port: see examples/microvm."""

    cgroup = "/c/first-zone"

    def __init__(self, port):
        self.port = socket.socket(socket.AF_UNIX)
        self.port.settimeout(120)
        self.port.connect(port)
        self.answers = self.port.makefile("rb")
        self.run("container create first-zone")

    def run(self, line):
        self.port.sendall(line.encode() + b"\n")
        status, length = map(int, self.answers.readline().split())
        output = self.answers.read(length).decode()
        assert not status, f"'{line}': {output}"
        return output

    def wait(self, word):
        self.run(f"i=0; until grep -q ^{word} /run/c/first-zone.log; do i=$((i+1)); "
                 "[ $i -lt 1000 ] || exit 1; sleep 0.05; done")

    def use(self):
        self.pid = int(self.run(f"container start first-zone workload anon={DIRTY // MIB} "
                                f"free={100 * (DIRTY - KEEP) // DIRTY}"))
        self.wait("ready")

    def idle(self):
        self.run(f"kill -USR1 {self.pid}")
        self.wait("idle")

    def stop(self):
        self.run(f"kill -USR2 {self.pid}")
        self.wait("verified")
        self.run("container stop first-zone")

    def remove(self):
        self.run("container remove first-zone")


def show(when, stats):
    print(f"{when:10} {stats.used / MIB:6.1f} MiB used, {stats.free_backed / MIB:6.1f} free and backed, "
          f"{stats.free_unbacked / MIB:6.1f} free and unbacked")
    return stats


def live(vm, container):
    zone = vm.create(SIZE)
    zone.attach_cgroup(container.cgroup)
    container.use()
    assert show("busy", zone.stats()).used >= DIRTY
    container.idle()
    show("idle", zone.stats())
    returned = zone.reclaim()
    show("reclaimed", zone.stats())
    print(f"           {returned / MIB:6.1f} MiB came back, from a container that runs on")
    assert returned >= 0.99 * (DIRTY - KEEP)
    try:
        zone.destroy()
        raise AssertionError("a zone was destroyed though its container lives")
    except czone.Error as error:
        assert error.errno == errno.EBUSY, error
    container.stop()
    print(f"destroyed  {zone.destroy().returned / MIB:6.1f} MiB came back")
    container.remove()


def main(arguments):
    if len(arguments) == 4:
        state, kernel, initrd, rootfs = arguments
        with czone.VM.start(state_dir=state, kernel=kernel, initrd=initrd, disks=["ro:" + rootfs],
                            channel=state + "/exec") as vm:
            live(vm, Container(state + "/exec"))
        return
    uri = arguments[0] if arguments else "test:///default"
    with czone.open(uri) as vm:
        live(vm, (Child if uri.startswith("guest:") else Task)(vm))


if __name__ == "__main__":
    main(sys.argv[1:])
