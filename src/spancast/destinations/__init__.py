"""Post: span records to what each vendor understands."""
