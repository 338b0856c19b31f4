"""What `headrace` can be told to do: each module is one command, a thin shell that assembles and prints."""
