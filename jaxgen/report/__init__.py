"""Tables, figures and a report: what the rows of results.csv say, with intervals."""
