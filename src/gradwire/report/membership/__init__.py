"""The report of a membership run: which attacks tell members from others, and how well."""
