"""What a sealed checkpoint's calibration was worth, measured from what it carries."""
