"""What one destination may see of a span, as data and as bytes."""
