"""Questions with answers: each declared beside its experiment, measured again by one command."""
