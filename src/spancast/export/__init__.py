"""Export: ended spans are filtered, queued on disk and delivered to every destination."""
