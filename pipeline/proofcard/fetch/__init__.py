"""What a recipe takes from the hub, brought before it is needed."""
