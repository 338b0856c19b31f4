"""Consumers that bring the pipeline's topics into the stores: Postgres (the truth), raw landing, Elasticsearch, Redis.

Each is a `Sink` run by the one loop in `sinks.runner`.
"""
