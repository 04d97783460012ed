"""The queue between recording and delivery: a log of batches with a cursor per destination."""
