"""The report of a study: its claims, and a table and a figure for each command that it has cells of."""
