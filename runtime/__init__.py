"""Things that every process shares: settings, logging, health, errors, Kafka.

Imports `schemas` only. Importing opens nothing; constructors do not connect.
"""
