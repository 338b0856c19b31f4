"""The real servers and our processes on one machine, without Docker.

`kafka.py`, `postgres.py`, `redis.py` and `elasticsearch.py` each know one server: where its program comes from, how its
data folder is prepared, its command line, and how to ask it whether it is well. `programs.py` adds our own
processes, and `stack.py` hands all of them to a supervisor (`headrace up`); `servers.py` starts servers alone, as
direct children, for tests and benchmarks.
"""
