"""What the page Learning shows: a tally of the log that is kept up to date, runs of MLflow, jobs of Ray."""
