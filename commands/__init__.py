"""The commands of `headrace`: each module is one, a thin shell that calls a service and prints."""
