"""Functions of arrays: networks, their products, random numbers, losses."""
