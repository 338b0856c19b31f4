"""The kind `csv`: a file of any encoding and delimiter, from a disk or an address."""
