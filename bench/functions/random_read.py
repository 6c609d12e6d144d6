# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reading blocks of a file in random order."""
import os
import random
import zlib

SIZE = 8 << 20  # bytes
PATH = "/tmp/random"
BLOCK = 4096


def handler(n):
    with open(PATH, "wb") as f:
        for i in range(n >> 16):
            f.write(i.to_bytes(4, "big") * (1 << 14))
    rng, sum_ = random.Random(1), 0
    fd = os.open(PATH, os.O_RDONLY)
    for _ in range(n // BLOCK):
        sum_ = zlib.crc32(os.pread(fd, BLOCK, rng.randrange(n // BLOCK) * BLOCK), sum_)
    os.close(fd)
    os.unlink(PATH)
    return sum_
