"""The page: the local store in a browser, for ``spancast ui`` (extra ``ui``)."""
