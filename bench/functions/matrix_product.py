# SPDX-License-Identifier: LGPL-2.1-or-later
"""The product of two square matrices."""
import numpy

SIZE = 200


def handler(n):
    a = numpy.arange(n * n, dtype=float).reshape(n, n) % 7
    return float((a @ a.T).trace())
