"""From file, environment and keywords to checked settings; loads when ``settings.load`` is called."""
