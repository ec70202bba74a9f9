"""Signatures over a checkpoint in OpenSSF Model Signing's format: reading and checking them.

`sign` writes them through model-signing; what is here needs `cryptography` alone.
"""
