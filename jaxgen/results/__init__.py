"""Runs as files and as records. No JAX."""
