"""Clients of Kafka, its topics and groups, and what stands at an offset."""
