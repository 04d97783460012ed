"""Where SDKs are wrapped: one file per SDK beside the hooks they share."""
