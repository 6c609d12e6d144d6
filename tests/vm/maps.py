# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which pages of the pools are backed: the guest's word, and the host's own."""
import base64
import gzip
import os
import re

from microvm import MIB

PAGE = 4096


class Maps:
    """Maps of all pools, one after the other, as integers: bit n is page n. Without the memory maps at their heads.

    The host's files are found by their sizes, so no two pools may be of the same.
    """

    def __init__(self, guest, pid):
        self.guest = guest
        lines = guest.run("grep 'RAM (czone)' /proc/iomem").splitlines()
        bounds = [[int(x, 16) for x in re.match(r"\s*(\w+)-(\w+)", line).groups()] for line in lines]
        self.pools = [(start, end + 1 - start, self._open(pid, end + 1 - start)) for start, end in bounds]
        self.mask = self._join(
            ((1 << size // PAGE) - 1) >> meta // PAGE << meta // PAGE
            for _, size, _ in self.pools for meta in [-(-size // 64 // (4 * MIB)) * 4 * MIB])

    def close(self):
        for _, _, fd in self.pools:
            os.close(fd)

    def _join(self, maps):
        bits = at = 0
        for part, (_, size, _) in zip(maps, self.pools):
            bits |= part << at
            at += size // PAGE
        return bits

    @staticmethod
    def _open(pid, size):
        """A pool's file, through QEMU's descriptor of it."""
        for name in os.listdir(f"/proc/{pid}/fd"):
            path = f"/proc/{pid}/fd/{name}"
            try:
                if os.path.isfile(path) and os.stat(path).st_size == size:
                    return os.open(path, os.O_RDONLY)
            except OSError:
                pass
        raise AssertionError("QEMU has no file of the pool's size")

    def _file(self, name):
        text = self.guest.run(f"gzip -c /sys/kernel/debug/czone/{name} | base64 | tr -d '\\n'")
        data = gzip.decompress(base64.b64decode(text))
        assert len(data) == max(start + size for start, size, _ in self.pools) // PAGE // 8
        return data

    @staticmethod
    def _part(data, start, size):
        return int.from_bytes(data[start // PAGE // 8:(start + size) // PAGE // 8], "little")

    def read(self, start, size, name):
        """A part of the guest's map, by its address."""
        return self._part(self._file(name), start, size)

    def _read(self, name):
        data = self._file(name)
        return self.mask & self._join(self._part(data, start, size) for start, size, _ in self.pools)

    def backed(self):
        return self._read("backed")

    def zero(self):
        return self._read("zero")

    @staticmethod
    def resident(fd, size):
        bits, at = 0, 0
        while at < size:
            try:
                data = os.lseek(fd, at, os.SEEK_DATA)
            except OSError:     # ENXIO: none
                break
            at = os.lseek(fd, data, os.SEEK_HOLE)
            bits |= ((1 << (at - data) // PAGE) - 1) << data // PAGE
        return bits

    def host(self):
        return self.mask & self._join(self.resident(fd, size) for _, size, fd in self.pools)

    def check_same(self, more=0):
        """Pages that both sides have. The host may have a few more that the guest does not know of."""
        guest, host = self.backed(), self.host()
        print(f"backed: {guest.bit_count()} pages, {(host & ~guest).bit_count()} more on the host")
        same = not guest & ~host and (host & ~guest).bit_count() <= more    # not for pytest to print
        assert same, f"{(guest & ~host).bit_count()} pages are not resident that the " \
            f"guest counts as backed, {(host & ~guest).bit_count()} are that it does not"
        return guest.bit_count()
