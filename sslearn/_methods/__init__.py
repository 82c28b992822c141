"""The methods, one a file; what serves a single method stands beside it under its name."""
