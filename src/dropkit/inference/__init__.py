"""What a trained model with dropout can say: how sure it is, in many passes or one, and what of it goes into service."""
