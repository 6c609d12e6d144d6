# SPDX-License-Identifier: LGPL-2.1-or-later
"""Breadth-first search through a random graph."""
import collections
import random

SIZE = 5000     # vertices


def handler(n):
    rng = random.Random(1)
    edges = [[rng.randrange(n) for _ in range(4)] for _ in range(n)]
    distance, queue = {0: 0}, collections.deque([0])
    while queue:
        v = queue.popleft()
        for w in edges[v]:
            if w not in distance:
                distance[w] = distance[v] + 1
                queue.append(w)
    return max(distance.values())
