"""Whether a run looks unlike the runs of its source before. See decision 0022."""
