"""One record followed from its source to the API: all that topics and stores know of a key, in order of time."""
