"""Experiments that test, on your own machine, what the other folders are built on."""
