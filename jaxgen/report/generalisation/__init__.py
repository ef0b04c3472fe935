"""The report of a generalisation study: evidence, words, tables, pictures."""
