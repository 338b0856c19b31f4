"""Where the tests' servers come from. Tests ask for fixtures and never learn which back end is behind them."""
