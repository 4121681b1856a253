"""Kind `offline`: a Q network learns from a table of logged transitions."""
