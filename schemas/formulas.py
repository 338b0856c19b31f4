"""Texts that a spreadsheet would run when it opens a file that holds them (OWASP, "CSV injection")."""

FORMULA = "^[\\s\ufeff]*[=+\\-@＝＋－＠]|^[\t\r\n]"
"""Fits a text that begins like a formula, whatever blanks stand before it; an apostrophe before it makes it a text.

In words that Python's expressions and Arrow's share. Not a raw string: Arrow's know no escapes of Unicode.
"""

LATER_CELL = "(;[\\s\ufeff]*)([=@＝＠]|[+\\-＋－][^\\d\\s])"
"""Fits the begin of a formula within a text, where a spreadsheet of another language begins a cell: at a semicolon,
quoted or not. The apostrophe goes between its two groups.
"""

HARMLESS = "\\1'\\2"
"""In its place."""
