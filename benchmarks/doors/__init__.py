"""Changes that people make most, and the files that each takes. `make doors`."""
