# SPDX-License-Identifier: LGPL-2.1-or-later
"""A dense system of linear equations."""
import numpy

SIZE = 150


def handler(n):
    a = numpy.random.default_rng(1).random((n, n)) + n * numpy.eye(n)
    x = numpy.linalg.solve(a, a.sum(axis=1))
    assert numpy.allclose(x, 1)
    return float(x.sum())
