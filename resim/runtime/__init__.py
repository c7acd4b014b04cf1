"""What every run has, whatever it trains or measures."""
