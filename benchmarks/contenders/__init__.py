"""Contenders that are measured: each function sets one up and returns (run, facts), see `worker`.

Peers are imported inside the functions, so that one that is not installed is skipped by name.
"""
