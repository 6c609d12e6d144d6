# SPDX-License-Identifier: LGPL-2.1-or-later
"""Sines, cosines and square roots."""
import math

SIZE = 20000


def handler(n):
    return sum(math.sin(i) * math.cos(i) + math.sqrt(i) for i in range(n))
