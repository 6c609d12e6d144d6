# SPDX-License-Identifier: LGPL-2.1-or-later
"""AES-256 in counter mode, there and back."""
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

SIZE = 1 << 20  # bytes


def handler(n):
    cipher = Cipher(algorithms.AES(bytes(range(32))), modes.CTR(bytes(16)))
    plain = bytes(n)
    encryptor, decryptor = cipher.encryptor(), cipher.decryptor()
    secret = encryptor.update(plain) + encryptor.finalize()
    assert decryptor.update(secret) + decryptor.finalize() == plain
    return secret[:4].hex()
