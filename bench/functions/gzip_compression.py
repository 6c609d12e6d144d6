# SPDX-License-Identifier: LGPL-2.1-or-later
"""Compressing text."""
import gzip

SIZE = 1 << 20  # bytes


def handler(n):
    text = b" ".join(str(i * i).encode() for i in range(n // 8))[:n]
    packed = gzip.compress(text)
    assert gzip.decompress(packed) == text
    return len(packed)
