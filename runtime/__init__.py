"""Shared by every process: settings, logging, health, errors, Kafka.

Imports `schemas` only. Importing opens nothing; constructors do not connect.
"""
