"""Outside the gate (make check-wheels): what the lock files promise to Pythons and machines that are not at hand."""
