# SPDX-License-Identifier: LGPL-2.1-or-later
"""Writing a file and reading it from beginning to end."""
import hashlib
import os

SIZE = 8 << 20  # bytes
PATH = "/tmp/sequential"


def handler(n):
    with open(PATH, "wb") as f:
        for i in range(n >> 16):
            f.write(i.to_bytes(4, "big") * (1 << 14))
    digest = hashlib.sha1()
    with open(PATH, "rb") as f:
        while block := f.read(1 << 16):
            digest.update(block)
    os.unlink(PATH)
    return digest.hexdigest()
