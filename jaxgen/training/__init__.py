"""Compiled programs over lanes, and what they collect."""
