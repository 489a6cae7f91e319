"""What a variant is, in words and as a picture of its mask: what ``dropkit explain`` and the documentation show."""
