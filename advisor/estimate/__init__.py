"""How many bytes, how many seconds: sums of terms."""
