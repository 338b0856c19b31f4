"""What every process shares: settings, logging, health, Kafka clients, and the shape of each store.

Imports `schemas` only. Importing opens nothing; constructors do not connect.
"""
