"""Methods x concepts x seeds under one protocol: run them, pool what they score, compare them."""
