"""Failures on purpose, for a while: `headrace rehearse` asks for them, and one stage of the pipeline has them.

No stage knows of it. Entry points put these wrappers around sources, normalizer and sinks, where REHEARSALS is true.
"""
