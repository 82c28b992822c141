"""The methods, one a file; what serves a single method stands next to it under its name."""
