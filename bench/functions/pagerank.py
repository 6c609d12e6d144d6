# SPDX-License-Identifier: LGPL-2.1-or-later
"""PageRank of a random graph."""
import random

SIZE = 1000     # vertices
ROUNDS = 10


def handler(n):
    rng = random.Random(1)
    edges = [[rng.randrange(n) for _ in range(4)] for _ in range(n)]
    rank = [1 / n] * n
    for _ in range(ROUNDS):
        following = [0.15 / n] * n
        for v, out in enumerate(edges):
            for w in out:
                following[w] += 0.85 * rank[v] / len(out)
        rank = following
    assert abs(sum(rank) - 1) < 1e-6
    return max(rank)
