"""From a source to `<dataset>.raw`: sources.toml, the readers of each kind, and the publishing run.

Importing opens nothing; a source opens what it reads when its records are asked for.
"""
