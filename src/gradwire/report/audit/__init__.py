"""The report of an audit: what leaks, and what it costs."""
