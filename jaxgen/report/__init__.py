"""From the rows of results.csv to statements with intervals: a report in words and figures."""
