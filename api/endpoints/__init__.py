"""HTTP endpoints: parse, ask one query function, wrap its answer."""
