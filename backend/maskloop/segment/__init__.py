"""Image and prompt to mask. Knows no Label Studio, Flask, Redis or database."""
