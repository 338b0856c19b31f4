"""The kind `rss`: entries of RSS and Atom feeds."""
