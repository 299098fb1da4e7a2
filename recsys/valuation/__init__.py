"""What the value heads say, calibrated, carried beyond the horizons they learned, with its spread."""
