"""The queue between tracing and delivery: a log of batches with a cursor per destination."""
