"""proofcard: model cards you can prove. See README.md and `quantize --help`."""
