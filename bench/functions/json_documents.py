# SPDX-License-Identifier: LGPL-2.1-or-later
"""Writing and reading a JSON document."""
import json

SIZE = 2000     # records


def handler(n):
    records = [{"id": i, "name": f"user {i}", "tags": ["a", "b", str(i)], "score": i / 7}
               for i in range(n)]
    text = json.dumps(records)
    assert json.loads(text) == records
    return len(text)
