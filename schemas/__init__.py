"""The declarations of the data: datasets, fields and their normal form, topics, and the messages that travel on them.

Imports nothing of ours, opens nothing. Everything else in the house is derived from the declarations here.
"""
