"""The shape of Postgres, Elasticsearch and Redis, and the ways into them.

Imports `schemas` and `runtime` only. Importing opens nothing; constructors do not connect.
"""
