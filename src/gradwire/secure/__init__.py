"""Secure sums: the keys, masks, shares and protocols by which clients add up vectors that nobody may see one by one.

The primitives are those of `cryptography`. Vectors hold integers modulo 2⁸, 2¹⁶ or 2³².
"""
