"""What a sweep trains and what it need not, and what a person sees of that."""
