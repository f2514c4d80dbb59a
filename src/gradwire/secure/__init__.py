"""Secure sums: keys, masks, shares and the protocols that add up what nobody may see one by one.

Everything cryptographic comes from `cryptography` and `pycryptodome`; here it is only put together. The parts know
nothing of gradients: what they add up are vectors of integers modulo 2⁸, 2¹⁶ or 2³².
"""
