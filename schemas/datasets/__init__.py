"""One file per dataset; a module here with a `DATASET` is all that a new dataset takes."""
