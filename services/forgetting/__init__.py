"""Forgetting a person: `search` finds what raw records and failures say of them, `forget` erases it for ever."""
