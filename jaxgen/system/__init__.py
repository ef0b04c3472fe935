"""The machine and its files; knows no learning, and imports no JAX when it is imported."""
