"""MuJoCo's robots as Gymnasium's version 5 has them."""
