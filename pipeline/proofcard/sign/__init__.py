"""`sign`: a signature over a sealed checkpoint, and signed statements on what it was made from and proved."""
