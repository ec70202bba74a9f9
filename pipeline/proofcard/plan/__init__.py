"""What a recipe will do, from config.json alone: no weight is read and no GPU is needed."""
