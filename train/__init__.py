"""LEARN: a dual encoder, what it learns from, and what it is worth; torch, and no Beam.

The extra `train` installs what this package needs.
"""
