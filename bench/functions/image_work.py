# SPDX-License-Identifier: LGPL-2.1-or-later
"""A picture turned, blurred and made a thumbnail."""
import io

from PIL import Image, ImageFilter

SIZE = 512      # pixels a side


def handler(n):
    image = Image.radial_gradient("L").resize((n, n)).convert("RGB")
    image = image.rotate(30).filter(ImageFilter.GaussianBlur(2))
    image.thumbnail((128, 128))
    out = io.BytesIO()
    image.save(out, "JPEG")
    return len(out.getvalue())
