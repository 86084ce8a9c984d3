"""The HTML report: one offline page for each run, and an index over runs, drawn from run.json alone."""
