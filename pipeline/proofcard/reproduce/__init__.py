"""`reproduce`: a checkpoint rebuilt from its manifest alone, and compared digest by digest."""
