"""The kind `webhook`: records that somebody posts to us."""
