"""The program proper: one light module per stage, and the geometry, learning and formats behind them."""
