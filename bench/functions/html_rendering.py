# SPDX-License-Identifier: LGPL-2.1-or-later
"""A page from a template."""
import jinja2

SIZE = 500      # rows
TEMPLATE = jinja2.Template("""<html><body><table>{% for row in rows %}
<tr><td>{{ row.id }}</td><td>{{ row.name|e }}</td></tr>{% endfor %}
</table></body></html>""")


def handler(n):
    return len(TEMPLATE.render(rows=[{"id": i, "name": f"<{i}>"} for i in range(n)]))
