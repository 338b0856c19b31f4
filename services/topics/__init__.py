"""Topics as people look at them: what there is, what lies in them, and a record to try the pipeline with."""
