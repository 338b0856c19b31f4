"""Texts that a spreadsheet would run when it opens a file that holds them (OWASP, "CSV injection")."""

FORMULA = "^[\\s\ufeff]*[=+\\-@＝＋－＠]|^[\t\r\n]"
"""Fits a text that begins like a formula, whatever blanks stand before it; an apostrophe before it makes it a text.

In words that Python's expressions and Arrow's share. Not a raw string: Arrow's know no escapes of Unicode.
"""
