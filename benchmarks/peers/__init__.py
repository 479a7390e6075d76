"""Other systems on the same splits: quality and seconds, side by side."""
