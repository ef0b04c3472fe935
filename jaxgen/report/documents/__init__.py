"""Documents: sections of words, tables and pictures, as text, markdown or HTML."""
