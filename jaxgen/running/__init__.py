"""Doing a study, here or by workers."""
