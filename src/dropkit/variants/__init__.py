"""Every dropout variant: one file a family, the pure function above its module."""
