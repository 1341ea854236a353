"""Experiments that put altmill's claim to the test; LOG.md is their record."""
