"""Outside the gate (make test-world): files, feeds and texts that none of us wrote, and how they are read."""
