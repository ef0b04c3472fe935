"""What kinds of study ask beyond a product of arms, as data."""
