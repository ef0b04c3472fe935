"""Lines between networks: their points, their measures, and the order of hidden units."""
