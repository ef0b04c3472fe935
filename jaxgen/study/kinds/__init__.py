"""Questions of kinds of study beyond a product of arms, as data."""
