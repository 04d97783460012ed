"""Settings: keywords over environment over file, and clear errors for what is wrong in them."""
