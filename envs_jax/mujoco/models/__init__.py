"""Models of MuJoCo's classic robots, built in code; they need mujoco.

Each compiles to the bits of the model that Gymnasium loads, but for what physics does not read:
names, colours, lights and textures. Lengths are in metres, masses in kilograms, angles in degrees
but where a model is in radians.
"""
