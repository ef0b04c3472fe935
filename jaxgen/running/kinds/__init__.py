"""Kinds of study: what is made of a trained batch, as data."""
