"""Questions as data: configurations, runs and their product. No JAX, no files."""
